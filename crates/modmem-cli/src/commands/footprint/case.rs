//! The cases that are compared: three ways to cut memory, with pages of three sizes.

use modmem::profile::{MemoryModel, Profile};

/// How memory is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Linux 5.10 to 6.3: a block for what stays, a block for what goes after init.
    ModuleLayout,
    /// Linux 6.4 and later: a block for each of seven types of memory.
    ModuleMemory,
    /// Other loaders: a block for every section.
    BlockPerSection,
}

impl Cut {
    pub(crate) const ALL: [Cut; 3] = [Cut::ModuleLayout, Cut::ModuleMemory, Cut::BlockPerSection];

    /// The name in CSV and JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cut::ModuleLayout => "module_layout",
            Cut::ModuleMemory => "module_memory",
            Cut::BlockPerSection => "block_per_section",
        }
    }

    /// The name for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Cut::ModuleLayout => "module_layout (6.1)",
            Cut::ModuleMemory => "module_memory (6.12)",
            Cut::BlockPerSection => "block per section",
        }
    }

    fn model(self) -> Option<MemoryModel> {
        match self {
            Cut::ModuleLayout => Some(MemoryModel::ModuleLayout),
            Cut::ModuleMemory => Some(MemoryModel::ModuleMemory),
            Cut::BlockPerSection => None,
        }
    }
}

/// Bytes of a page, the smallest first.
pub(crate) const PAGE_SIZES: [u64; 3] = [4 << 10, 16 << 10, 64 << 10];

/// A way to cut memory with pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) cut: Cut,
    pub(crate) page_size: u64,
}

impl Case {
    pub(crate) const COUNT: usize = PAGE_SIZES.len() * Cut::ALL.len();

    /// All of them, page size by page size.
    pub(crate) fn all() -> [Case; Case::COUNT] {
        std::array::from_fn(|at| Case {
            cut: Cut::ALL[at % Cut::ALL.len()],
            page_size: PAGE_SIZES[at / Cut::ALL.len()],
        })
    }

    /// Where it is in [`Case::all`].
    pub(crate) fn index(self) -> usize {
        Case::all().iter().position(|&case| case == self).unwrap_or(0)
    }

    /// The kernel of `profile`, were it to cut memory like this; `None` where no Linux does.
    pub(crate) fn profile(self, profile: &Profile) -> Option<Profile> {
        Some(Profile { model: self.cut.model()?, page_size: self.page_size, ..profile.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_found_where_it_is() {
        for (at, case) in Case::all().into_iter().enumerate() {
            assert_eq!(case.index(), at);
        }
    }
}
