//! Namespaces of exported symbols that name the modules they are for: `module:kvm,kvm-intel`
//! (main.c:verify_module_namespace, setup_modinfo).

use super::error::LinkError;
use crate::image::Image;
use crate::name::Name;
use crate::profile::Profile;

const PREFIX: &[u8] = b"module:";

/// Whether a namespace names that module: between commas stand names, in which `-` and `_` are the same, and beginnings
/// of names with a `*` behind them.
pub(super) fn names(namespace: Name<'_>, module: Name<'_>) -> bool {
    let Some(patterns) = namespace.bytes().strip_prefix(PREFIX) else { return false };
    let same = |(a, b): (&u8, &u8)| match (a, b) {
        (b'-' | b'_', b'-' | b'_') => true,
        (a, b) => a == b,
    };
    patterns.split(|&byte| byte == b',').any(|pattern| {
        let (start, open) = pattern.strip_suffix(b"*").map_or((pattern, false), |start| (start, true));
        let fits = if open { start.len() <= module.len() } else { start.len() == module.len() };
        fits && start.iter().zip(module.bytes()).all(same)
    })
}

/// Such a namespace cannot be imported: who is not named has no way in.
pub(super) fn check_imports(image: &Image<'_>, profile: &Profile) -> Result<(), LinkError> {
    let mut imports = image.modinfo().all("import_ns");
    match imports.find(|import| import.bytes().starts_with(PREFIX)).filter(|_| profile.module_namespaces) {
        Some(import) => Err(LinkError::ImportsModuleNamespace { namespace: import.to_text().into() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_names_modules_and_beginnings_of_modules() {
        let named = |namespace: &str, module: &str| names(Name::from(namespace), Name::from(module));
        assert!(named("module:kvm,kvm-intel", "kvm_intel") && named("module:kvm,kvm_intel", "kvm"));
        assert!(!named("module:kvm,kvm-intel", "kvm_amd") && !named("module:kvm-intel", "kvm"));
        assert!(named("module:xe*", "xe") && named("module:a,xe*", "xe_vfio_pci"));
        assert!(!named("module:xe*", "x") && !named("xe*", "xe") && !named("module:", "xe"));
        assert!(named("module:*", "anything"));
    }
}
