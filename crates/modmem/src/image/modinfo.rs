//! `.modinfo`: strings of the form `key=value`, each ended by a NUL, with any number of NULs between them.

use super::error::ImageError;
use super::sections::{Section, WellKnown};
use crate::name::{Name, length_to_nul};

/// The strings of `.modinfo`; empty where a module has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModInfo<'a> {
    data: &'a [u8],
    /// The first value of each of `ASKED`, found in one pass.
    asked: [Option<Name<'a>>; ASKED.len()],
}

/// Keys that every load asks for.
const ASKED: [&str; 7] = ["name", "license", "vermagic", "intree", "staging", "livepatch", "test"];

/// One string of `.modinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModInfoField<'a> {
    /// What stands before the first `=`.
    pub key: Name<'a>,
    /// What stands after it.
    pub value: Name<'a>,
}

impl<'a> ModInfo<'a> {
    pub(super) fn read(sections: &[Section<'a>], known: &WellKnown) -> Result<ModInfo<'a>, ImageError> {
        let Some(section) = known.modinfo.map(|index| &sections[index]) else {
            return Ok(ModInfo::default());
        };
        // Linux bounds only its scan: it hands out the last value unterminated, and takes what stands where a section
        // without bytes would begin for the first string (main.c:get_next_modinfo).
        match section.data().last() {
            Some(0) => Ok(ModInfo::new(section.data())),
            _ => Err(ImageError::Unterminated { section: section.label() }),
        }
    }

    fn new(data: &'a [u8]) -> ModInfo<'a> {
        let mut modinfo = ModInfo { data, asked: [None; ASKED.len()] };
        for field in modinfo.fields() {
            // Most fields are aliases, which no load asks for: a look at the length saves the comparisons.
            let asked = |key: &&str| key.len() == field.key.len() && field.key == **key;
            if let Some(at) = ASKED.iter().position(asked) {
                modinfo.asked[at].get_or_insert(field.value);
            }
        }
        modinfo
    }

    /// All fields in file order; strings without a `=` are skipped, as Linux's look-ups never find them.
    pub fn fields(&self) -> impl Iterator<Item = ModInfoField<'a>> + use<'a> {
        let mut rest = self.data;
        core::iter::from_fn(move || {
            while !rest.is_empty() {
                let length = length_to_nul(rest);
                let (string, tail) = rest.split_at(length);
                rest = tail.get(1..).unwrap_or_default();
                if let Some(equals) = string.iter().position(|&byte| byte == b'=') {
                    let (key, value) = (Name(&string[..equals]), Name(&string[equals + 1..]));
                    return Some(ModInfoField { key, value });
                }
            }
            None
        })
    }

    /// The first value of `key` (main.c:get_modinfo).
    pub fn get(&self, key: &str) -> Option<Name<'a>> {
        match ASKED.iter().position(|asked| *asked == key) {
            Some(at) => self.asked[at],
            None => self.all(key).next(),
        }
    }

    /// Every value of `key`, in file order.
    pub fn all<'k>(&self, key: &'k str) -> impl Iterator<Item = Name<'a>> + use<'a, 'k> {
        self.fields().filter(move |field| field.key == key).map(|field| field.value)
    }
}
