//! The modules of a machine: `/proc/modules`, section addresses, sizes.

use std::{collections::HashMap, fmt::Write as _, io::BufRead};

use super::lines::{each_line, hex};
use crate::Error;

/// More modules than any kernel has.
pub(crate) const MOST_MODULES: usize = 1 << 14;
/// Bytes of the longest name of a module: Linux allows a few less.
const LONGEST_NAME: usize = 63;
/// More section addresses than any kernel reports.
const MOST_SECTIONS: usize = 1 << 19;
/// More users of all modules together than anybody has.
const MOST_USERS: usize = 1 << 20;

/// One module as the kernel reported it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleRecord {
    /// The module's name.
    pub name: String,
    /// Bytes of all memories that it holds at the moment, in whole pages.
    pub size: u64,
    /// How often it is used; `None` where the kernel cannot unload modules.
    pub refcnt: Option<u64>,
    /// The modules that use it, as the kernel lists them.
    pub users: Vec<String>,
    /// It has an init function and no exit function: it can never be unloaded.
    pub permanent: bool,
    /// Where it is in its life.
    pub state: ModuleState,
    /// Where its text lies; 0 if it is hidden or if there is none.
    pub address: u64,
    /// Linux's taint letters, with `+` or `-` while it comes or goes.
    pub taints: String,
    /// Its sections with their addresses. Those of init stay listed after their memory was freed.
    pub sections: Vec<SectionAddress>,
    /// Bytes of what stays after init.
    pub core_size: Option<u64>,
    /// Bytes of what is freed after init; 0 once it was.
    pub init_size: Option<u64>,
    /// Its build id, from the note that the kernel keeps.
    pub build_id: Option<Vec<u8>>,
    /// Its notes, as the kernel keeps them.
    pub notes: Vec<u8>,
}

/// Where a section lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionAddress {
    /// The section's name.
    pub name: String,
    /// The address of its first byte.
    pub address: u64,
}

/// Where a module is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModuleState {
    /// Its init has run.
    #[default]
    Live,
    /// Its init runs.
    Loading,
    /// Its exit runs.
    Unloading,
}

impl ModuleState {
    /// The word of `/proc/modules`.
    pub fn name(self) -> &'static str {
        match self {
            ModuleState::Live => "Live",
            ModuleState::Loading => "Loading",
            ModuleState::Unloading => "Unloading",
        }
    }

    /// The word of `/sys/module/NAME/initstate`.
    pub(crate) fn init_state(self) -> &'static str {
        match self {
            ModuleState::Live => "live",
            ModuleState::Loading => "coming",
            ModuleState::Unloading => "going",
        }
    }
}

impl ModuleRecord {
    /// Where the section of this name lies.
    pub fn section(&self, name: &str) -> Option<u64> {
        self.sections.iter().find(|section| section.name == name).map(|section| section.address)
    }

    /// Whether the section's memory was given back after init, so that its address is no longer the module's.
    ///
    /// `machine` is that of the snapshot: powerpc's 64-bit kernels keep what others throw away. The file's own symbol
    /// table goes with init everywhere.
    pub fn is_freed(&self, section: &str, machine: &str) -> bool {
        let is_init = match section {
            ".symtab" | ".strtab" => true,
            name if name.starts_with(".init") => !machine.starts_with("ppc64"),
            name => name.starts_with(".ARM.ex") && name.contains(".init"),
        };
        is_init && self.init_is_over()
    }

    /// Whether init is over, so that its memory was given back.
    pub fn init_is_over(&self) -> bool {
        match self.init_size {
            Some(size) => size == 0,
            None => self.state == ModuleState::Live,
        }
    }

    /// The sections whose memory is there, with their addresses.
    pub fn present_sections<'m>(&'m self, machine: &'m str) -> impl Iterator<Item = &'m SectionAddress> {
        let is_present =
            |section: &&SectionAddress| section.address != 0 && !self.is_freed(&section.name, machine);
        self.sections.iter().filter(is_present)
    }

    /// One line of `/proc/modules`.
    fn parse(line: &str) -> Option<ModuleRecord> {
        let mut fields = line.split(' ');
        let name = fields.next().filter(|name| is_module_name(name))?.to_owned();
        let size = fields.next()?.parse().ok()?;
        let refcnt = match fields.next()? {
            "-" => None,
            count => Some(count.parse().ok()?),
        };
        let mut record = ModuleRecord { name, size, refcnt, ..ModuleRecord::default() };
        let users = fields.next()?;
        for user in users.split(',').filter(|user| !user.is_empty() && *user != "-") {
            match user {
                "[permanent]" => record.permanent = true,
                user => record.users.push(user.to_owned()),
            }
        }
        record.state = match fields.next()? {
            "Live" => ModuleState::Live,
            "Loading" => ModuleState::Loading,
            "Unloading" => ModuleState::Unloading,
            _ => return None,
        };
        record.address = hex(fields.next()?)?;
        if let Some(taints) = fields.next().filter(|taints| !taints.is_empty()) {
            record.taints = taints.strip_prefix('(')?.strip_suffix(')')?.to_owned();
        }
        fields.next().is_none().then_some(record)
    }

    fn line(&self) -> String {
        let refcnt = self.refcnt.map_or("-".to_owned(), |count| count.to_string());
        let mut users: String = self.users.iter().map(|user| format!("{user},")).collect();
        if self.permanent {
            users.push_str("[permanent],");
        }
        if users.is_empty() {
            users.push('-');
        }
        let taints = match self.taints.as_str() {
            "" => String::new(),
            taints => format!(" ({taints})"),
        };
        let state = self.state.name();
        format!("{} {} {refcnt} {users} {state} {:#018x}{taints}\n", self.name, self.size, self.address)
    }
}

/// Reads `/proc/modules`.
pub(crate) fn parse(shown: &str, input: impl BufRead) -> Result<Vec<ModuleRecord>, Error> {
    let mut modules: Vec<ModuleRecord> = Vec::new();
    let mut users = 0;
    each_line(shown, input, |line| {
        let module =
            ModuleRecord::parse(line).ok_or_else(|| format!("{line:?} is no line of /proc/modules"))?;
        if modules.len() == MOST_MODULES {
            return Err(format!("more than {MOST_MODULES} modules"));
        }
        users += module.users.len();
        if users > MOST_USERS {
            return Err(format!("more than {MOST_USERS} users of modules"));
        }
        modules.push(module);
        Ok(())
    })?;
    match twice(modules.iter().map(|module| module.name.as_str())) {
        Some(name) => Err(Error::malformed(shown, format!("module {name:?} is listed twice"))),
        None => Ok(modules),
    }
}

/// Whether a module may have this name: it is a word of a line, and the name of a folder.
pub(crate) fn is_module_name(name: &str) -> bool {
    let is_part = |byte: u8| !matches!(byte, b' ' | b'\t' | b'\n' | b'/');
    (1..=LONGEST_NAME).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(is_part)
}

/// A name that is there twice.
pub(crate) fn twice<'n>(names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// Writes what [`parse`] reads.
pub(crate) fn write(modules: &[ModuleRecord]) -> String {
    modules.iter().map(ModuleRecord::line).collect()
}

/// Section addresses by module, from lines of "module section 0xaddress".
pub(crate) fn parse_sections(
    shown: &str,
    input: impl BufRead,
) -> Result<HashMap<String, Vec<SectionAddress>>, Error> {
    let mut sections: HashMap<String, Vec<SectionAddress>> = HashMap::new();
    let mut count = 0;
    each_line(shown, input, |line| {
        let wrong = || format!("{line:?} is not \"module section 0xaddress\"");
        let (module, rest) = line.split_once(' ').ok_or_else(wrong)?;
        let (name, address) = rest.rsplit_once(' ').ok_or_else(wrong)?;
        let address = hex(address).filter(|_| !module.is_empty() && !name.is_empty()).ok_or_else(wrong)?;
        count += 1;
        if count > MOST_SECTIONS {
            return Err(format!("more than {MOST_SECTIONS} sections"));
        }
        let section = SectionAddress { name: name.to_owned(), address };
        match sections.get_mut(module) {
            Some(known) => known.push(section),
            None => drop(sections.insert(module.to_owned(), vec![section])),
        }
        Ok(())
    })?;
    Ok(sections)
}

pub(crate) fn write_sections(modules: &[ModuleRecord]) -> String {
    let mut text = String::new();
    for module in modules {
        for section in &module.sections {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{} {} {:#018x}", module.name, section.name, section.address);
        }
    }
    text
}

/// Core and init size of one module, as far as the kernel says.
pub(crate) type Sizes = (Option<u64>, Option<u64>);

/// Core and init sizes by module, from lines of "module key=value ...".
pub(crate) fn parse_sizes(shown: &str, input: impl BufRead) -> Result<HashMap<String, Sizes>, Error> {
    let mut sizes = HashMap::new();
    each_line(shown, input, |line| {
        let mut words = line.split(' ');
        let module = words.next().unwrap_or_default().to_owned();
        let (mut core, mut init) = (None, None);
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let number = || match value {
                "" => Ok(None),
                value => value.parse().map(Some).map_err(|_| format!("{key}={value:?} is no number")),
            };
            match key {
                "core" => core = number()?,
                "init" => init = number()?,
                _ => {}
            }
        }
        if sizes.len() == MOST_MODULES {
            return Err(format!("more than {MOST_MODULES} modules"));
        }
        sizes.insert(module, (core, init));
        Ok(())
    })?;
    Ok(sizes)
}

pub(crate) fn write_sizes(modules: &[ModuleRecord]) -> String {
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let line = |module: &ModuleRecord| {
        format!(
            "{} core={} init={} refcnt={} taint={} state={}\n",
            module.name,
            number(module.core_size),
            number(module.init_size),
            number(module.refcnt),
            module.taints.trim_end_matches(['+', '-']),
            module.state.init_state(),
        )
    };
    modules.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_modules_come_back_as_they_were() {
        let text = "kvm 1392640 3 kvm_intel,[permanent], Live 0xffffffffc0647000\n\
                    a 4096 - - Loading 0x0000000000000000 (OE+)\n\
                    virtio 16384 2 virtio_pci,virtio_blk, Unloading 0x00000000be61c000\n";
        let modules = parse("modules", text.as_bytes()).unwrap();
        assert_eq!(modules[0].users, ["kvm_intel"]);
        assert!(modules[0].permanent && modules[1].refcnt.is_none());
        assert_eq!((modules[1].taints.as_str(), modules[1].state), ("OE+", ModuleState::Loading));
        assert_eq!(write(&modules), text);
    }

    #[test]
    fn lines_that_are_damaged_are_told_with_their_number() {
        let good = "kvm 1 0 - Live 0x1000\n";
        for bad in
            ["kvm", "b x 0 - Live 0x0", "b 1 0 - Alive 0x0", "b 1 0 - Live 0x0 E", "b 1 0 - Live 0x0 (E) y"]
        {
            let error =
                parse("host.mms: modules", format!("{good}{bad}\n").as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("host.mms: modules: line 2: "), "{error}");
        }
        assert!(parse("m", format!("{good}{good}").as_bytes()).unwrap_err().to_string().contains("twice"));
        assert!(parse_sections("s", &b"kvm .text\n"[..]).is_err());
        assert!(parse_sections("s", &b"kvm .text 0xfffffffffffffffff\n"[..]).is_err());
        assert!(parse_sizes("s", &b"kvm core=many\n"[..]).is_err());
    }

    #[test]
    fn freed_are_init_sections_and_the_file_s_symbols_once_init_is_over() {
        let mut module = ModuleRecord { init_size: Some(0), ..ModuleRecord::default() };
        assert!(module.is_freed(".init.text", "x86_64") && module.is_freed(".symtab", "ppc64le"));
        assert!(!module.is_freed(".init.text", "ppc64le") && !module.is_freed(".text", "x86_64"));
        module.init_size = Some(4096);
        assert!(!module.is_freed(".init.text", "x86_64"));
    }

    #[test]
    fn a_section_s_name_may_hold_spaces() {
        let sections = parse_sections("s", &b"m .text odd name 0x10\n"[..]).unwrap();
        assert_eq!(sections["m"], [SectionAddress { name: ".text odd name".into(), address: 0x10 }]);
    }
}
