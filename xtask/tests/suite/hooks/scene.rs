//! A recorded kernel to play hooks in.

use std::collections::BTreeSet;

use modmem::layout::MemoryKind;
use modmem::verify::Unexplained;
use modmem_linux::verify::Verification;
use xtask::oracle::Oracle;
use xtask::replay::Replay;
use xtask::tamper::{Change, Victim, unexplained};

/// Where nothing is: no module, no kernel, no area.
pub(crate) const FOREIGN: u64 = 0xffff_ffff_f123_4560;
/// How far from a change a span may lie that is said to be it: the rest of an instruction.
const NEAR: u64 = 16;

/// A site: whose, and where.
pub(crate) type Site = (String, u64);

/// A recorded kernel, and its modules as relocation alone makes them.
pub(crate) struct Scene {
    pub(crate) victim: Victim,
    /// Memories that stay: address and bytes as relocated.
    relocated: Vec<(u64, Vec<u8>)>,
    name: &'static str,
    kinds: BTreeSet<String>,
}

/// A branch of five bytes.
pub(crate) fn branch(opcode: u8, from: u64, to: u64) -> Vec<u8> {
    let mut bytes = vec![opcode];
    bytes.extend((to.wrapping_sub(from + 5) as u32).to_le_bytes());
    bytes
}

/// Where a branch with 32 bits of displacement goes, whatever kind it is.
pub(crate) fn target(bytes: &[u8], from: u64) -> u64 {
    let displacement = i32::from_le_bytes(bytes[1..5].try_into().expect("4 bytes"));
    (from + 5).wrapping_add(i64::from(displacement) as u64)
}

impl Scene {
    pub(crate) fn open(name: &'static str) -> Scene {
        let victim = Victim::from_environment(name);
        let oracle = Oracle::from_environment(name);
        let replay = Replay::all(&oracle).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let mut relocated = Vec::new();
        for module in replay.modules.iter() {
            for kind in MemoryKind::ALL.into_iter().filter(|kind| !kind.is_init()) {
                let Some(address) = module.address(kind) else { continue };
                relocated.push((address.0, module.bytes(kind).to_vec()));
            }
        }
        Scene { victim, relocated, name, kinds: BTreeSet::new() }
    }

    /// How many kinds of hooks were played.
    pub(crate) fn kinds(&self) -> usize {
        self.kinds.len()
    }

    /// The bytes that relocation makes at an address.
    pub(crate) fn relocated(&self, address: u64, length: usize) -> &[u8] {
        let bytes = self.relocated.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(offset..offset + length)
        });
        bytes.unwrap_or_else(|| panic!("{length} bytes at {address:#x}"))
    }

    /// The bytes that the running kernel has at an address.
    pub(crate) fn running(&self, address: u64, length: usize) -> &[u8] {
        self.victim.bytes(address, length)
    }

    pub(crate) fn kernel_symbol(&self, name: &str) -> u64 {
        self.victim.snapshot.symbols.kernel(name).unwrap_or_else(|| panic!("{name}"))
    }

    /// The first of these sites where the kernel has something else than relocation made.
    pub(crate) fn changed(&self, sites: &[Site], length: usize) -> Option<Site> {
        let changed = |site: &&Site| self.relocated(site.1, length) != self.running(site.1, length);
        sites.iter().find(changed).cloned()
    }

    /// Functions of a module: their entries, as those of `__mcount_loc` have them.
    pub(crate) fn functions(&self, module: &str) -> Vec<u64> {
        let symbols = self.victim.snapshot.symbols.iter();
        let own = symbols.filter(|s| s.module == Some(module) && matches!(s.letter, 't' | 'T'));
        let mut functions: Vec<u64> =
            own.map(|s| s.address).filter(|&at| self.victim.is_text(module, at)).collect();
        functions.sort_unstable();
        functions.dedup();
        functions
    }

    /// Bytes put at an address must be found there.
    pub(crate) fn one(&mut self, what: &str, address: u64, bytes: impl Into<Vec<u8>>) {
        self.found(what, &[Change::new(address, bytes)]);
    }

    /// Each change must be found where it is, and nothing that was not changed may be blamed.
    pub(crate) fn found(&mut self, what: &str, changes: &[Change]) {
        let name = self.name;
        for change in changes {
            let before = self.running(change.address, change.bytes.len());
            assert_ne!(before, change.bytes, "{name}: {what}: nothing is changed at {:#x}", change.address);
        }
        let verification = self.victim.with(changes);
        assert!(!verification.is_clean(), "{name}: {what}: not found: {changes:x?}");
        let spans = unexplained(&verification);
        let near = |span: &Unexplained, change: &Change| {
            let (start, end) = (span.address.0, span.address.0 + span.found.len() as u64);
            start < change.range().end + NEAR && change.address < end + NEAR
        };
        for change in changes {
            let is_found = spans.iter().any(|span| near(span, change));
            assert!(is_found, "{name}: {what}: not found: {change:x?}, but {spans:x?}");
        }
        for span in &spans {
            let is_right = changes.iter().any(|change| near(span, change));
            assert!(is_right, "{name}: {what}: blamed for {changes:x?}: {span:x?}");
        }
        println!("{name}: {what} at {:#x}: {:?}", changes[0].address, spans[0].why);
        self.kinds.insert(what.to_owned());
    }

    /// Something that is no change of bytes must be found.
    pub(crate) fn verified(
        &mut self,
        what: &str,
        verification: &Verification,
        how: impl FnOnce(&Verification) -> bool,
    ) {
        let name = self.name;
        assert!(!verification.is_clean(), "{name}: {what}: not found");
        let strays: Vec<_> = verification.strays.iter().filter(|stray| stray.kind.is_unexplained()).collect();
        assert!(how(verification), "{name}: {what}: found, but not as it should be: {strays:x?}");
        println!("{name}: {what}: {strays:x?}");
        self.kinds.insert(what.to_owned());
    }
}
