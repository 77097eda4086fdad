//! Sections that stay in memory although nothing reads them once the module has loaded.

use modmem::Name;

/// Sections of x86-64 modules that only the loader reads, by name.
///
/// Each is read once, by what the second column names, and never again; their memory is core, so they stay as long
/// as the module does. Not among them, because something reads them later: `.smp_locks` (CPUs that come and go),
/// `__jump_table` and `.static_call_sites` (patched at any time), `__bug_table`, `__ex_table` and ORC (faults and
/// traces), `__param` (sysfs points into it), the export tables (modules that load later), notes (sysfs).
const LOAD_ONLY: [(&str, &str); COUNT] = [
    (".altinstructions", "apply_alternatives"),
    (".altinstr_replacement", "apply_alternatives; text, and never run where it lies"),
    (".altinstr_aux", "no one: what jumps there is patched before the module runs"),
    (".parainstructions", "apply_paravirt, up to Linux 6.7"),
    (".retpoline_sites", "apply_retpolines and apply_fineibt"),
    (".return_sites", "apply_returns"),
    (".call_sites", "callthunks_patch_module_calls"),
    (".cfi_sites", "apply_fineibt"),
    (".ibt_endbr_seal", "apply_seal_endbr"),
    ("__mcount_loc", "ftrace_process_locs, which keeps records of its own"),
    ("__patchable_function_entries", "no one: ftrace takes __mcount_loc on this machine"),
];

const COUNT: usize = 11;

/// Bytes of each of these sections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoadOnly([u64; COUNT]);

impl LoadOnly {
    /// Counts a section if it is one of them.
    pub(crate) fn count(&mut self, name: Name<'_>, size: u64) {
        if let Some(at) = LOAD_ONLY.iter().position(|&(section, _)| name == section) {
            self.0[at] += size;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that have bytes, the largest first.
    pub(crate) fn sections(&self) -> Vec<(&'static str, u64)> {
        let mut sections: Vec<_> = LOAD_ONLY.iter().map(|&(name, _)| name).zip(self.0).collect();
        sections.retain(|&(_, size)| size > 0);
        sections.sort_by_key(|&(_, size)| std::cmp::Reverse(size));
        sections
    }
}

impl std::ops::AddAssign for LoadOnly {
    fn add_assign(&mut self, other: LoadOnly) {
        for (sum, size) in self.0.iter_mut().zip(other.0) {
            *sum += size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_are_read_again_later_do_not_count() {
        let mut sizes = LoadOnly::default();
        for name in [".smp_locks", "__jump_table", ".static_call_sites", "__param", ".orc_unwind", ".text"] {
            sizes.count(Name::from(name), 8);
        }
        assert_eq!(sizes.total(), 0);
    }

    #[test]
    fn sections_come_by_size_and_empty_ones_not_at_all() {
        let mut sizes = LoadOnly::default();
        sizes.count(Name::from(".return_sites"), 4);
        sizes.count(Name::from("__mcount_loc"), 16);
        sizes.count(Name::from("__mcount_loc"), 8);
        assert_eq!(sizes.sections(), [("__mcount_loc", 24), (".return_sites", 4)]);
    }
}
