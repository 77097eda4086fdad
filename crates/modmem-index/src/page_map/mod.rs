//! The default map: one entry a page.
