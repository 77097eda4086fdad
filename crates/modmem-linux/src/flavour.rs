//! Debian's flavours of kernels, and for which of its architectures each is.

/// The flavour that is meant where none is named.
pub(crate) const DEFAULT: &str = "amd64";

/// What flavours say beside the machine, before its name and behind it.
const BEFORE: [&str; 2] = ["cloud-", "rt-"];
const BEHIND: [&str; 4] = ["-16k", "-64k", "-unsigned", "-dbg"];

/// The last word of a package's name, and the architecture whose package lists have it.
const ARCHITECTURES: [(&str, &str); 17] = [
    ("amd64", "amd64"),
    ("686", "i386"),
    ("686-pae", "i386"),
    ("arm64", "arm64"),
    ("armmp", "armhf"),
    ("armmp-lpae", "armhf"),
    ("marvell", "armel"),
    ("rpi", "armel"),
    ("s390x", "s390x"),
    ("powerpc64le", "ppc64el"),
    ("riscv64", "riscv64"),
    ("loong64", "loong64"),
    ("mips64r2el", "mips64el"),
    ("loongson-3", "mips64el"),
    ("5kc-malta", "mips64el"),
    ("mips32r2el", "mipsel"),
    ("4kc-malta", "mipsel"),
];

/// The architecture of Debian that has kernels of this flavour; `None` if the flavour is none that is known.
pub(crate) fn architecture(flavour: &str) -> Option<&'static str> {
    let plain = BEFORE.iter().fold(flavour, |name, start| name.strip_prefix(start).unwrap_or(name));
    let plain = BEHIND.iter().fold(plain, |name, end| name.strip_suffix(end).unwrap_or(name));
    ARCHITECTURES.iter().find(|(name, _)| *name == plain).map(|(_, architecture)| *architecture)
}

/// The version and the flavour in a whole release, `6.12.117+deb12-cloud-arm64`; `None` if it ends with no known flavour.
pub(crate) fn of_release(release: &str) -> Option<(&str, &str)> {
    release
        .match_indices('-')
        .map(|(at, _)| (&release[..at], &release[at + 1..]))
        .find(|(version, flavour)| !version.is_empty() && architecture(flavour).is_some())
}

/// Flavours to name in an error: one of each machine.
pub(crate) const EXAMPLES: &str =
    "amd64, cloud-amd64, arm64, arm64-16k, s390x, powerpc64le, riscv64 or armmp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flavour_is_of_one_architecture_whatever_is_special_about_it() {
        for (flavour, of) in [
            ("amd64", "amd64"),
            ("cloud-amd64", "amd64"),
            ("rt-amd64", "amd64"),
            ("cloud-arm64", "arm64"),
            ("arm64-16k", "arm64"),
            ("rt-arm64", "arm64"),
            ("rt-686-pae", "i386"),
            ("armmp-lpae", "armhf"),
            ("powerpc64le-64k", "ppc64el"),
            ("s390x", "s390x"),
        ] {
            assert_eq!(architecture(flavour), Some(of), "{flavour}");
        }
        for other in ["", "arm65", "x-amd64", "16k", "cloud-"] {
            assert_eq!(architecture(other), None, "{other}");
        }
    }

    #[test]
    fn a_whole_release_is_parted_before_its_flavour() {
        assert_eq!(of_release("6.1.0-56-cloud-amd64"), Some(("6.1.0-56", "cloud-amd64")));
        assert_eq!(of_release("6.12.107+deb13-arm64-16k"), Some(("6.12.107+deb13", "arm64-16k")));
        assert_eq!(of_release("6.1.0-9-686-pae"), Some(("6.1.0-9", "686-pae")));
        assert_eq!(of_release("7.3-rc2-s390x"), Some(("7.3-rc2", "s390x")));
        assert_eq!((of_release("6.1.0-56"), of_release("sid"), of_release("-amd64")), (None, None, None));
    }
}
