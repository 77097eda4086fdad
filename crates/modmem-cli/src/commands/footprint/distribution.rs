//! How the modules of a set differ from each other.

use serde::Serialize;

use super::case::{Case, Cut, PAGE_SIZES};
use super::report::ModuleReport;

/// Modules that are named as the most wasteful ones.
const TOP: usize = 10;

/// The case that modules are compared in: Linux 6.12 as it runs on x86-64.
pub(crate) const USUAL: Case = Case { cut: Cut::ModuleMemory, page_size: PAGE_SIZES[0] };

/// Facts about single modules, all in the case `module_memory` with 4 KiB pages.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Distribution {
    pub(crate) modules: usize,
    /// Of an even number, a median is the lower one of the two in the middle.
    pub(crate) median_needed: u64,
    pub(crate) median_allocated: u64,
    pub(crate) median_resident: u64,
    pub(crate) median_waste: u64,
    /// Modules of which more than half of what is allocated is waste.
    pub(crate) mostly_waste: usize,
    /// Modules whose text that stays is less than a page.
    pub(crate) text_below_page: Vec<TextBelowPage>,
    /// Those with the most waste, the worst first.
    pub(crate) most_waste: Vec<Waster>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TextBelowPage {
    pub(crate) page_size: u64,
    pub(crate) modules: usize,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Waster {
    pub(crate) name: String,
    pub(crate) needed: u64,
    pub(crate) allocated: u64,
    pub(crate) waste: u64,
    /// The same module's waste before the seven memories.
    pub(crate) waste_module_layout: u64,
}

impl Distribution {
    pub(crate) fn of(modules: &[ModuleReport]) -> Distribution {
        let wasters: Vec<Waster> = modules.iter().map(Waster::of).collect();
        let count_text = |page_size| {
            let text = modules.iter().map(|module| module.footprint.0.content.text);
            TextBelowPage { page_size, modules: text.filter(|&text| text < page_size).count() }
        };
        Distribution {
            modules: modules.len(),
            median_needed: median(wasters.iter().map(|module| module.needed)),
            median_allocated: median(wasters.iter().map(|module| module.allocated)),
            median_resident: median(modules.iter().map(|m| m.footprint.0.cost(USUAL).core.allocated)),
            median_waste: median(wasters.iter().map(|module| module.waste)),
            mostly_waste: wasters.iter().filter(|module| module.waste * 2 > module.allocated).count(),
            text_below_page: PAGE_SIZES.map(count_text).into(),
            most_waste: most_waste(wasters),
        }
    }
}

impl Waster {
    fn of(module: &ModuleReport) -> Waster {
        let footprint = &module.footprint.0;
        let cost = footprint.cost(USUAL);
        Waster {
            name: module.name.clone(),
            needed: cost.core.needed + cost.init.needed,
            allocated: cost.allocated(),
            waste: cost.waste(),
            waste_module_layout: footprint.cost(Case { cut: Cut::ModuleLayout, ..USUAL }).waste(),
        }
    }
}

/// The worst first; of equal ones, the first by name.
fn most_waste(mut wasters: Vec<Waster>) -> Vec<Waster> {
    wasters.sort_by(|a, b| b.waste.cmp(&a.waste).then_with(|| a.name.cmp(&b.name)));
    wasters.truncate(TOP);
    wasters
}

fn median(numbers: impl Iterator<Item = u64>) -> u64 {
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    let middle = numbers.len().saturating_sub(1) / 2;
    numbers.get(middle).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_lower_middle_and_nothing_has_none() {
        assert_eq!(median([9, 1, 5].into_iter()), 5);
        assert_eq!(median([9, 1, 5, 7].into_iter()), 5);
        assert_eq!(median([].into_iter()), 0);
    }

    #[test]
    fn the_worst_come_first_and_equals_by_name() {
        let waster = |name: &str, waste| Waster {
            name: name.into(),
            needed: 0,
            allocated: 0,
            waste,
            waste_module_layout: 0,
        };
        let sorted = most_waste(vec![waster("b", 5), waster("c", 9), waster("a", 5)]);
        let names: Vec<&str> = sorted.iter().map(|waster| waster.name.as_str()).collect();
        assert_eq!(names, ["c", "a", "b"]);
    }
}
