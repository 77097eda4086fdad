//! What a kernel asks of a module before it lets it in: version magic, licence, and what taints.

use alloc::string::String;

use crate::image::Image;
use crate::link::LinkError;
use crate::name::Name;
use crate::profile::Profile;

/// Licences that count as GPL-compatible, to the letter (include/linux/license.h:license_is_gpl_compatible).
const GPL_COMPATIBLE: &[&str] =
    &["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];

/// Modules that are proprietary whatever licence they name: one was caught lying about it, of the other there is no
/// source (main.c:module_augment_kernel_taints).
const PROPRIETARY: [&str; 2] = ["driverloader", "lve"];

/// Why Linux marks itself tainted by a module (main.c:module_augment_kernel_taints).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taints {
    /// P: the licence is not GPL-compatible, or a symbol came from such a module.
    pub proprietary: bool,
    /// F: loaded by force.
    pub forced: bool,
    /// C: from the staging tree.
    pub staging: bool,
    /// O: not from the kernel's own tree.
    pub out_of_tree: bool,
    /// E: no signature, under a kernel that looks for one.
    pub unsigned: bool,
    /// K: a live patch.
    pub livepatch: bool,
    /// N: a test.
    pub test: bool,
}

impl Taints {
    /// What the file alone taints with. A signature is taken for good, not verified.
    pub(crate) fn of(image: &Image<'_>, profile: &Profile) -> Taints {
        let modinfo = image.modinfo();
        Taints {
            proprietary: !is_gpl_compatible(modinfo.get("license"))
                || PROPRIETARY.iter().any(|name| image.name() == *name),
            forced: false,
            staging: modinfo.get("staging").is_some(),
            out_of_tree: modinfo.get("intree").is_none(),
            unsigned: profile.switches.module_sig && image.signature().is_none(),
            livepatch: modinfo.get("livepatch").is_some(),
            test: modinfo.get("test").is_some(),
        }
    }

    /// Lets a module in that does not say what it was built for, if the kernel does so at all
    /// (main.c:try_to_force_load).
    pub(crate) fn force_load(&mut self, profile: &Profile) -> bool {
        self.forced |= profile.switches.module_force_load;
        profile.switches.module_force_load
    }

    /// The letters in Linux's order (kernel/panic.c:taint_flags), as /proc/modules shows them.
    pub fn letters(&self) -> String {
        let all = [
            (self.proprietary, 'P'),
            (self.forced, 'F'),
            (self.staging, 'C'),
            (self.out_of_tree, 'O'),
            (self.unsigned, 'E'),
            (self.livepatch, 'K'),
            (self.test, 'N'),
        ];
        all.into_iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect()
    }
}

fn is_gpl_compatible(licence: Option<Name<'_>>) -> bool {
    licence.is_some_and(|licence| GPL_COMPATIBLE.iter().any(|good| licence == *good))
}

/// Compares version magic (main.c:early_mod_check, same_magic): without the release where CRCs tell better. With
/// `force`, the module's counts as missing.
pub(crate) fn check_version_magic(
    image: &Image<'_>,
    profile: &Profile,
    force: bool,
    taints: &mut Taints,
) -> Result<(), LinkError> {
    let Some(kernel) = profile.vermagic.as_deref() else { return Ok(()) };
    let module = image.modinfo().get("vermagic").filter(|_| !force);
    if module.is_none() && taints.force_load(profile) {
        return Ok(());
    }
    let module = module.unwrap_or_default();
    let skip_release = image.versions().is_present() && profile.switches.modversions;
    let tail = |magic: &[u8]| match skip_release {
        true => magic.iter().position(|&byte| byte == b' ').map_or(magic.len(), |at| at),
        false => 0,
    };
    let (ours, theirs) = (kernel.as_bytes(), module.bytes());
    let rest = theirs[tail(theirs)..].strip_prefix(&ours[tail(ours)..]);
    // A kernel whose structures are shuffled tells by a hash how, which only its modules know.
    let hashed = kernel.ends_with("RANDSTRUCT_") || kernel.ends_with("RANDSTRUCT_PLUGIN_");
    let same = rest.is_some_and(|rest| match hashed {
        true => !rest.is_empty() && rest.iter().all(u8::is_ascii_hexdigit),
        false => rest.is_empty(),
    });
    if !theirs.is_empty() && same {
        return Ok(());
    }
    Err(LinkError::VersionMagic { module: module.to_text().into(), kernel: kernel.into() })
}

/// Versions in their extended form have both parts, and a name for each CRC (main.c:elf_validity_cache_index_versions).
pub(crate) fn check_extended_versions(
    image: &Image<'_>,
    profile: &Profile,
    force: bool,
) -> Result<(), LinkError> {
    if !profile.extended_versions || force {
        return Ok(());
    }
    let known = image.known();
    let problem = match image.extended_versions() {
        None if known.extended_crcs.is_some() || known.extended_names.is_some() => {
            "extended version crc+name presence does not match"
        }
        Some(versions) if !versions.is_complete() => "more extended version crcs than names",
        _ => return Ok(()),
    };
    Err(LinkError::ExtendedVersions { problem })
}
