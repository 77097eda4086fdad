//! Telling Debian's kernels by their releases: some of their patches decide which modules are loaded.

/// What a flavour of Debian ends with: the machine, as Debian's packages name it.
const MACHINES: [&str; 18] = [
    "amd64",
    "arm64",
    "armmp",
    "armmp-lpae",
    "686",
    "686-pae",
    "s390x",
    "powerpc64le",
    "powerpc64",
    "powerpc",
    "powerpc-smp",
    "riscv64",
    "loong64",
    "parisc",
    "parisc64",
    "marvell",
    "rpi",
    "arm64-16k",
];

/// Whether a kernel that calls itself `release` is one of Debian's: `6.12.117+deb13-amd64`, `6.1.0-57-cloud-amd64`,
/// `5.10.0-0.bpo.3-arm64`.
pub(super) fn is_debians(release: &str) -> bool {
    if release.contains("+deb") || release.contains("+bpo") {
        return true;
    }
    // Until trixie: the version without the stable release, a number of the interface, the flavour.
    let mut parts = release.splitn(3, '-');
    let (Some(version), Some(interface), Some(flavour)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let numbered = interface == "trunk"
        || interface.split('.').all(|part| part == "bpo" || part.bytes().all(|byte| byte.is_ascii_digit()));
    let flavoured = MACHINES.iter().any(|machine| {
        flavour.strip_suffix(machine).is_some_and(|before| before.is_empty() || before.ends_with('-'))
    });
    version.ends_with(".0") && numbered && flavoured
}

#[cfg(test)]
mod tests {
    use super::is_debians;

    #[test]
    fn debians_kernels_are_told_by_their_releases() {
        for release in [
            "6.12.117+deb13-amd64",
            "7.2.13+deb14-rt-amd64",
            "6.1.0-57-amd64",
            "6.1.0-50-cloud-arm64",
            "5.10.0-0.bpo.3-686-pae",
            "6.12.9+bpo-amd64",
        ] {
            assert!(is_debians(release), "{release}");
        }
        for release in [
            "6.12",
            "6.12.0-sample",
            "6.8.0-31-generic",
            "6.14.0-rust",
            "6.11.4-301.fc41.x86_64",
            "6.12.1-amd64",
        ] {
            assert!(!is_debians(release), "{release}");
        }
    }
}
