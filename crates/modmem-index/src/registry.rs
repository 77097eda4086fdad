//! Owners by id: published for readers, pinned while they are used, freed when nobody does.
