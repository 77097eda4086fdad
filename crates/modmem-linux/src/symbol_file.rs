//! `System.map` and `/proc/kallsyms`: addresses by name.

use crate::Error;
use std::collections::HashMap;

/// What such a file says about the kernel itself.
#[derive(Debug, Default)]
pub(crate) struct SymbolFile {
    addresses: HashMap<String, Named>,
    /// Names with a `__ksymtab_` symbol: those that the kernel exports.
    pub(crate) exported: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Named {
    address: u64,
    global: bool,
    /// Several symbols of the same rank have the name at different addresses.
    ambiguous: bool,
}

impl SymbolFile {
    /// Reads lines of `ADDRESS LETTER NAME [MODULE]`; symbols of modules are passed over.
    pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<SymbolFile, Error> {
        if says_where_the_real_one_is(bytes) {
            let problem = "only says where the real System.map is (Debian's linux-image-...-dbg package)";
            return Err(Error::malformed(file, problem));
        }
        let mut found = SymbolFile::default();
        let (mut lines, mut hidden) = (0u64, true);
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let Some((address, letter, name)) = symbol(line) else {
                // `[module]` lines are common; anything else is not such a file, unless it comes late.
                if lines == 0 {
                    return Err(Error::malformed(file, "neither a System.map nor a kallsyms file"));
                }
                continue;
            };
            lines += 1;
            let Some((name, in_kernel)) = name else {
                continue;
            };
            if !in_kernel {
                continue;
            }
            hidden &= address == 0;
            if let Some(exported) = name.strip_prefix("__ksymtab_") {
                // Before Linux 5.x the GPL table's entries were told apart by nothing but their section.
                found.exported.push(exported.to_owned());
            } else {
                found.add(name, address, letter.is_ascii_uppercase());
            }
        }
        if lines == 0 {
            return Err(Error::malformed(file, "empty"));
        }
        if hidden {
            return Err(Error::AddressesHidden { file: file.to_owned() });
        }
        found.exported.sort_unstable();
        found.exported.dedup();
        Ok(found)
    }

    fn add(&mut self, name: &str, address: u64, global: bool) {
        let new = Named { address, global, ambiguous: false };
        match self.addresses.get_mut(name) {
            None => {
                self.addresses.insert(name.to_owned(), new);
            }
            Some(known) if global && !known.global => *known = new,
            Some(known) if global == known.global => known.ambiguous |= known.address != address,
            Some(_) => {}
        }
    }

    /// The address of a symbol: of the global one, or of the only one of this name.
    pub(crate) fn address(&self, name: &str) -> Option<u64> {
        self.addresses.get(name).filter(|named| !named.ambiguous).map(|named| named.address)
    }

    /// All global names, for files that do not say what is exported.
    pub(crate) fn globals(&self) -> impl Iterator<Item = &str> {
        self.addresses.iter().filter(|(_, named)| named.global).map(|(name, _)| name.as_str())
    }
}

/// All symbols of the kernel itself that such a file names, as often as it does; what is no line of one is passed over.
pub(crate) fn all(bytes: &[u8]) -> impl Iterator<Item = (&str, u64)> {
    bytes.split(|&byte| byte == b'\n').filter_map(symbol).filter_map(|(address, _, name)| {
        let (name, in_kernel) = name?;
        in_kernel.then_some((name, address))
    })
}

/// Address, letter, and the name with whether it is the kernel's own; no name if it is not UTF-8.
type Symbol<'l> = (u64, char, Option<(&'l str, bool)>);

fn symbol(line: &[u8]) -> Option<Symbol<'_>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (address, rest) = line.split_at_checked(line.iter().position(|&byte| byte == b' ')?)?;
    let address = std::str::from_utf8(address).ok().filter(|text| matches!(text.len(), 8 | 16))?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let [b' ', letter, b' ', name @ ..] = rest else {
        return None;
    };
    let name = std::str::from_utf8(name).ok().map(|name| match name.split_once([' ', '\t']) {
        Some((name, module)) => (name, !module.trim_start().starts_with('[')),
        None => (name, true),
    });
    Some((address, char::from(*letter), name))
}

/// Debian ships a `System.map` of one line, which says where the real one is.
pub(crate) fn is_stub(bytes: &[u8]) -> bool {
    says_where_the_real_one_is(bytes) || !bytes.contains(&b'\n')
}

fn says_where_the_real_one_is(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(256)];
    start.windows(26).any(|text| text == b"The real System.map is in ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globals_go_before_locals_and_modules_are_passed_over() {
        let text = b"ffffffff81000000 T _text\n\
                     ffffffff81000010 t init_once\nffffffff81000020 t init_once\n\
                     ffffffff81000030 t both\nffffffff81000040 T both\nffffffff81000050 t both\n\
                     0000000000000000 A percpu_thing\n\
                     ffffffff82000000 r __ksymtab_both\nffffffff8200000c r __ksymtab_gone\n\
                     ffffffffc0000000 T ext4_thing\t[ext4]\n";
        let file = SymbolFile::parse("kallsyms", text).unwrap();
        assert_eq!(file.address("both"), Some(0xffff_ffff_8100_0040));
        assert_eq!(file.address("init_once"), None);
        assert_eq!(file.address("percpu_thing"), Some(0));
        assert_eq!(file.address("ext4_thing"), None);
        assert_eq!(file.exported, ["both", "gone"]);
    }

    #[test]
    fn all_symbols_are_told_as_often_as_they_are_there() {
        let text = b"ffffffff81000010 t once\nffffffff81000020 t once\n\nffffffffc0000000 T other\t[ext4]\n";
        let found: Vec<_> = all(text).collect();
        assert_eq!(found, [("once", 0xffff_ffff_8100_0010), ("once", 0xffff_ffff_8100_0020)]);
    }

    #[test]
    fn hidden_addresses_are_told_with_their_cause() {
        let text = b"0000000000000000 T _text\n0000000000000000 t other\n";
        let error = SymbolFile::parse("/proc/kallsyms", text).unwrap_err().to_string();
        assert!(error.contains("kptr_restrict"), "{error}");
    }

    #[test]
    fn other_files_are_refused() {
        for other in [&b"hello\n"[..], b"", b"\n\n", b"0 T x\n", b"zzzzzzzzzzzzzzzz T x\n", b"\xff\xfe\n"] {
            assert!(SymbolFile::parse("notes.txt", other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn debian_s_stub_is_known() {
        let stub = b"ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n";
        assert!(is_stub(stub));
        assert!(SymbolFile::parse("System.map", stub).unwrap_err().to_string().contains("-dbg package"));
        assert!(!is_stub(b"ffffffff81000000 T _text\nffffffff81000010 t other\n"));
        assert!(is_stub(b""));
    }
}
