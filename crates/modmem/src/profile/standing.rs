//! How sure we are of a profile: what about the kernel no running kernel has confirmed yet.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::{KernelConfig, KernelVersion};

/// A reason why a profile may be wrong. Without any, its rules were compared with running kernels of that version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doubt {
    /// No kernel of this version was compared with on this machine: its rules are those that Linux's sources tell.
    Version {
        /// The nearest version that was.
        nearest: KernelVersion,
    },
    /// The configuration sets something that is not modelled.
    Option {
        /// Its name without `CONFIG_`.
        name: &'static str,
        /// What the kernel does because of it.
        effect: &'static str,
    },
    /// It was built by another compiler than those of the kernels that were compared with.
    Compiler(Box<str>),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Version { nearest } => {
                write!(
                    f,
                    "no kernel of this version was compared with; the nearest that was is Linux {nearest}"
                )
            }
            Doubt::Option { name, effect } => write!(f, "CONFIG_{name} is not modelled: {effect}"),
            Doubt::Compiler(compiler) => {
                write!(f, "built by \"{compiler}\"; only kernels that GCC built were compared with")
            }
        }
    }
}

/// Options that change what modules look like in memory and that no rule knows.
const NOT_MODELLED: [(&str, &str); 9] = [
    ("CFI_CLANG", "indirect calls are checked by hashes before functions, which the kernel rewrites"),
    ("CFI", "indirect calls are checked by hashes before functions, which the kernel rewrites"),
    ("FINEIBT", "function entries and indirect calls are rewritten to check each other"),
    ("RANDSTRUCT", "members of structures are shuffled"),
    ("GCC_PLUGIN_RANDSTRUCT", "members of structures are shuffled"),
    ("KASAN", "memory of modules has shadow memory, and globals have constructors"),
    ("KMSAN", "memory of modules has shadow memory"),
    ("LTO_CLANG", "modules are linked in another way"),
    ("GCOV_KERNEL", "modules have constructors that register counters"),
];

/// What `config` makes doubtful.
pub(super) fn of_config(config: &KernelConfig<'_>) -> Vec<Doubt> {
    let options = NOT_MODELLED.iter().filter(|(name, _)| config.is_set(name));
    let mut doubts: Vec<Doubt> = options.map(|&(name, effect)| Doubt::Option { name, effect }).collect();
    // Configurations from before 4.18 do not say.
    if let Some(compiler) = config.value("CC_VERSION_TEXT").filter(|_| !config.is_set("CC_IS_GCC")) {
        doubts.push(Doubt::Compiler(compiler.trim_matches('"').into()));
    }
    doubts
}

/// What the version makes doubtful where kernels of the versions `proven` were compared with.
pub(super) fn of_version(version: KernelVersion, proven: &[KernelVersion]) -> Option<Doubt> {
    let older = proven.iter().rev().find(|known| **known <= version);
    let nearest = *older.or(proven.first())?;
    (nearest != version).then_some(Doubt::Version { nearest })
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn the_nearest_version_is_the_newest_that_is_not_newer() {
        let proven = [KernelVersion::new(6, 1), KernelVersion::new(6, 12), KernelVersion::new(7, 2)];
        let nearest = |major, minor| match of_version(KernelVersion::new(major, minor), &proven) {
            Some(Doubt::Version { nearest }) => Some((nearest.major, nearest.minor)),
            _ => None,
        };
        assert_eq!(nearest(6, 12), None);
        assert_eq!(nearest(6, 13), Some((6, 12)));
        assert_eq!(nearest(5, 19), Some((6, 1)));
        assert_eq!(nearest(8, 0), Some((7, 2)));
        assert_eq!(of_version(KernelVersion::new(6, 1), &[]), None);
    }

    #[test]
    fn options_and_compilers_that_are_not_modelled_are_doubts() {
        let debian = "CONFIG_CC_VERSION_TEXT=\"x86_64-linux-gnu-gcc-14 (Debian) 14.2\"\nCONFIG_CC_IS_GCC=y\n\
                      CONFIG_RANDSTRUCT_NONE=y\nCONFIG_HAVE_ARCH_KASAN=y\n";
        assert_eq!(of_config(&KernelConfig::parse(debian)), []);
        assert_eq!(of_config(&KernelConfig::parse("")), []);
        let other = "CONFIG_CC_VERSION_TEXT=\"clang version 21.1\"\nCONFIG_CC_IS_CLANG=y\nCONFIG_KASAN=y\n\
                     CONFIG_CFI_CLANG=y\n";
        let doubts: Vec<_> = of_config(&KernelConfig::parse(other)).iter().map(Doubt::to_string).collect();
        assert_eq!(doubts.len(), 3);
        assert!(doubts[0].contains("CONFIG_CFI_CLANG"), "{doubts:?}");
        assert!(doubts[2].contains("clang version 21.1"), "{doubts:?}");
    }
}
