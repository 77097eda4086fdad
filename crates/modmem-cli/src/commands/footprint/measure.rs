//! Measuring modules: each is read, laid out in every case, and forgotten.

use std::ops::AddAssign;

use anyhow::Result;
use modmem::image::Image;
use modmem::layout::{Layout, LayoutError};
use modmem::profile::{MemoryModel, Profile};
use modmem_linux::{ModuleFile, Progress};
use rayon::prelude::*;

use super::case::{Case, PAGE_SIZES};
use super::content::Content;
use super::cost::Cost;

/// One module, or the sum of many: what it brings and what that costs in each case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) content: Content,
    costs: [Cost; Case::COUNT],
}

impl Footprint {
    pub(crate) fn cost(&self, case: Case) -> &Cost {
        &self.costs[case.index()]
    }

    pub(crate) fn costs(&self) -> impl Iterator<Item = (Case, &Cost)> {
        Case::all().into_iter().zip(&self.costs)
    }
}

impl AddAssign for Footprint {
    fn add_assign(&mut self, other: Footprint) {
        self.content += other.content;
        for (sum, cost) in self.costs.iter_mut().zip(other.costs) {
            *sum += cost;
        }
    }
}

/// Measures modules for one kernel.
#[derive(Debug)]
pub(crate) struct Ruler {
    /// The kernel, as it would be with `module_memory` and small pages.
    base: Profile,
    /// For each case of Linux the kernel with and without symbol tables.
    profiles: [Option<[Profile; 2]>; Case::COUNT],
}

impl Ruler {
    pub(crate) fn new(profile: &Profile) -> Ruler {
        let pair = |case: Case| {
            let profile = case.profile(profile)?;
            let mut bare = profile.clone();
            bare.switches.kallsyms = false;
            Some([profile, bare])
        };
        let base = Profile { model: MemoryModel::ModuleMemory, page_size: PAGE_SIZES[0], ..profile.clone() };
        Ruler { base, profiles: Case::all().map(pair) }
    }

    pub(crate) fn measure(&self, image: &Image<'_>) -> Result<Footprint, LayoutError> {
        let layout = Layout::of(image, &self.base)?;
        let content = Content::of(image, &self.base, &layout);
        let mut costs = [Cost::default(); Case::COUNT];
        for ((case, profiles), cost) in Case::all().into_iter().zip(&self.profiles).zip(&mut costs) {
            *cost = match profiles {
                Some([full, bare]) => {
                    Cost::of_layout(&content, &Layout::of(image, full)?, &Layout::of(image, bare)?)
                }
                None => Cost::of_sections(image, &self.base, &layout, case.page_size),
            };
        }
        Ok(Footprint { content, costs })
    }

    /// Measures all modules on all cores. Results are in the modules' order, and no more files are in memory than
    /// there are threads.
    pub(crate) fn measure_all(
        &self,
        modules: &[ModuleFile],
        progress: &dyn Progress,
    ) -> Vec<Result<Footprint>> {
        let measure = |module: &ModuleFile| {
            let footprint = module.read().map_err(anyhow::Error::from);
            let footprint = footprint.and_then(|file| Ok(self.measure(&Image::parse(&file)?)?));
            progress.advance(1);
            footprint
        };
        modules.par_iter().map(measure).collect()
    }
}
