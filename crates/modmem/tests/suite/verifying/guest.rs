//! A machine to be: its memory, its kernel's symbols, and the modules that it has loaded.

use std::borrow::Cow;
use std::collections::BTreeMap;

use modmem::image::Image;
use modmem::verify::{
    Guest as GuestTrait, GuestMemory, GuestModule, GuestSymbol, ModuleReport, NotCompared, Rule, Unexplained,
    Verifier, VerifyError, Why,
};
use modmem::{MemoryKind, Name, Profile, RunAddr};

use crate::verifying::loader::Loaded;
use crate::verifying::module::{Module, hex};

/// A symbol of the guest's kallsyms.
#[derive(Clone, Debug)]
struct Symbol {
    name: &'static str,
    module: Option<&'static str>,
    text: bool,
}

/// A machine to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guest {
    memory: BTreeMap<u64, Vec<u8>>,
    symbols: BTreeMap<u64, Symbol>,
    /// Values of the kernel's symbols; several may have one address.
    names: BTreeMap<&'static str, u64>,
    /// Values of symbols of modules, by module and name.
    module_symbols: BTreeMap<(&'static str, &'static str), u64>,
    pub(crate) kprobes: Vec<RunAddr>,
    modules: u64,
}

impl Guest {
    pub(crate) fn new() -> Guest {
        Guest::default()
    }

    /// Adds a function of the kernel.
    pub(crate) fn function(&mut self, name: &'static str, address: u64) -> u64 {
        self.names.insert(name, address);
        self.symbols.insert(address, Symbol { name, module: None, text: true });
        address
    }

    /// Adds a variable of the kernel, with what is in it if that can be read.
    pub(crate) fn variable(&mut self, name: &'static str, address: u64, bytes: Option<&[u8]>) -> u64 {
        self.names.insert(name, address);
        self.symbols.insert(address, Symbol { name, module: None, text: false });
        if let Some(bytes) = bytes {
            self.memory.insert(address, bytes.to_vec());
        }
        address
    }

    /// Adds code that the kernel made at run time and lists under a name such as `__builtin__ftrace`.
    pub(crate) fn made(&mut self, module: &'static str, name: &'static str, address: u64) -> u64 {
        self.symbols.insert(address, Symbol { name, module: Some(module), text: true });
        address
    }

    /// Adds the kernel's words about the CPU: these features (word * 32 + bit) and what every machine has.
    pub(crate) fn cpu(&mut self, features: &[u16]) {
        self.cpu_with(24, b"GenuineIntel", 6, features);
    }

    /// The same where there are so many words, with vendor and model.
    pub(crate) fn cpu_with(&mut self, count: usize, vendor: &[u8; 12], model: u8, features: &[u16]) {
        const ALWAYS: u16 = 3 * 32 + 21;
        // FPU, MSR, PAE, CX8, FXSR, XMM, XMM2, LM
        const EVERY: [u16; 8] = [0, 5, 6, 8, 24, 25, 26, 32 + 29];
        // struct cpuinfo_x86 of 6.12: family, model and so on before the words, the vendor behind them.
        let mut bytes = vec![0x06; 40];
        bytes[2] = model;
        let mut words = vec![0_u32; count];
        for feature in features.iter().chain([&ALWAYS]).chain(&EVERY) {
            words[usize::from(feature / 32)] |= 1 << (feature % 32);
        }
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(vendor);
        bytes.resize(320, 0);
        self.variable("boot_cpu_data", 0xffff_ffff_8300_0000, Some(&bytes));
    }

    /// Makes memory readable with these bytes.
    pub(crate) fn map(&mut self, address: u64, bytes: &[u8]) {
        self.memory.insert(address, bytes.to_vec());
    }

    /// Makes the memory that starts there unreadable.
    pub(crate) fn unmap(&mut self, address: u64) {
        self.memory.remove(&address).unwrap();
    }

    /// Loads a module: all its memories, as they are before anything is patched; of a live one without init memory.
    pub(crate) fn load(&mut self, module: &Module) -> Loaded {
        let kernel = |name: &str| self.kernel_symbol(Name(name.as_bytes())).expect(name);
        let (loaded, memories) = module.load(self.modules, kernel);
        self.modules += 1;
        for (kind, address, bytes) in memories {
            if !(loaded.live && kind.is_init()) {
                self.memory.insert(address, bytes);
            }
        }
        loaded
    }

    /// Takes a symbol out of the kernel's.
    pub(crate) fn forget(&mut self, name: &str) {
        self.names.remove(name).unwrap();
    }

    /// Lets kallsyms know a symbol of a module.
    pub(crate) fn module_symbol_at(
        &mut self,
        module: &'static str,
        name: &'static str,
        address: u64,
        text: bool,
    ) {
        self.symbols.insert(address, Symbol { name, module: Some(module), text });
        self.module_symbols.insert((module, name), address);
    }

    /// Writes into memory that is there.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        let (start, memory) = self.memory.range_mut(..=address).next_back().unwrap();
        let at = (address - start) as usize;
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Writes the 32-bit distance from `address` to `to`.
    pub(crate) fn distance(&mut self, address: u64, to: u64) {
        self.write(address, &(to.wrapping_sub(address) as u32).to_le_bytes());
    }

    /// Writes code, as objdump prints bytes.
    pub(crate) fn code(&mut self, address: u64, text: &str) {
        self.write(address, &hex(text));
    }

    pub(crate) fn byte(&self, address: u64) -> u8 {
        let mut byte = [0];
        assert!(self.read(RunAddr(address), &mut byte));
        byte[0]
    }

    /// Checks one module of a machine of its own.
    pub(crate) fn verify(&self, module: &Loaded) -> ModuleReport {
        self.verify_all(&[module]).remove(0)
    }

    /// Checks modules in this order, settles, and checks again those that are to be.
    pub(crate) fn verify_all(&self, modules: &[&Loaded]) -> Vec<ModuleReport> {
        let mut verifier = self.verifier(modules[0].version);
        let mut reports: Vec<ModuleReport> =
            (0..).zip(modules).map(|(index, module)| check(&mut verifier, index, module).unwrap()).collect();
        for index in verifier.settle().unwrap() {
            reports[index as usize] = check(&mut verifier, index, modules[index as usize]).unwrap();
        }
        reports
    }

    pub(crate) fn verifier(&self, version: &str) -> Verifier<'_> {
        Verifier::new(self, Profile::named(version).unwrap(), self.kprobes.clone()).unwrap()
    }
}

/// Checks one module with a verifier that may have seen others.
pub(crate) fn check(
    verifier: &mut Verifier<'_>,
    index: u32,
    module: &Loaded,
) -> Result<ModuleReport, VerifyError> {
    let image = Image::parse(&module.file).unwrap();
    let names = module.sections.iter();
    let sections: Vec<_> = names.map(|(name, address)| (Name(name.as_bytes()), RunAddr(*address))).collect();
    let told = GuestModule {
        name: module.name,
        sections: &sections,
        live: module.live,
        forced: false,
        build_id: module.build_id.as_deref(),
        size: None,
    };
    let report = verifier.check(index, &image, &told)?;
    for (_, memory) in report.memories.iter() {
        // Every byte is counted once.
        let Some(tally) = memory.as_ref().map(|memory| &memory.tally) else { continue };
        let not_compared: u64 = tally.not_compared.iter().sum();
        let others = tally.explained_bytes() + tally.unproven_bytes() + tally.unexplained + not_compared;
        assert_eq!(tally.identical + others, tally.total);
    }
    Ok(report)
}

impl GuestMemory for Guest {
    fn read(&self, address: RunAddr, buffer: &mut [u8]) -> bool {
        let Some((start, memory)) = self.memory.range(..=address.0).next_back() else { return false };
        let at = (address.0 - start) as usize;
        let Some(bytes) = memory.get(at..).and_then(|rest| rest.get(..buffer.len())) else { return false };
        buffer.copy_from_slice(bytes);
        true
    }

    fn bytes(&self, address: RunAddr, length: usize) -> Option<Cow<'_, [u8]>> {
        let (start, memory) = self.memory.range(..=address.0).next_back()?;
        memory.get((address.0 - start) as usize..)?.get(..length).map(Cow::Borrowed)
    }
}

impl GuestTrait for Guest {
    fn kernel_symbol(&self, name: Name<'_>) -> Option<u64> {
        self.names.get(name.as_str()?).copied()
    }

    fn module_symbol(&self, module: &str, name: Name<'_>) -> Option<u64> {
        let mut symbols = self.module_symbols.iter();
        symbols.find(|((owner, known), _)| *owner == module && name == *known).map(|(_, value)| *value)
    }

    fn any_module_symbol(&self, name: Name<'_>) -> Option<u64> {
        self.module_symbols.iter().find(|((_, known), _)| name == *known).map(|(_, value)| *value)
    }

    fn symbol_at(&self, address: RunAddr) -> Option<GuestSymbol<'_>> {
        let (start, symbol) = self.symbols.range(..=address.0).next_back()?;
        let offset = address.0 - start;
        let &Symbol { name, module, text } = symbol;
        (offset < 0x1000).then_some(GuestSymbol { name, offset, module, text })
    }
}

/// Asserts that nothing is unexplained, and says what is if that is not so.
#[track_caller]
pub(crate) fn assert_clean(report: &ModuleReport) {
    assert_eq!(report.unexplained, []);
    assert!(report.is_clean());
    assert_eq!(report.more_unexplained, 0);
    assert_eq!(report.total().not_compared_for(NotCompared::Unreadable), 0);
}

/// Asserts that nothing is unexplained and that this rule explains so many bytes in all memories.
#[track_caller]
pub(crate) fn assert_explained(report: &ModuleReport, rule: Rule, bytes: u64) {
    assert_clean(report);
    assert_eq!(report.total().explained_by(rule), bytes);
}

/// The one span that is unexplained.
#[track_caller]
pub(crate) fn the_unexplained(report: &ModuleReport) -> &Unexplained {
    assert!(!report.is_clean());
    let [span] = &report.unexplained[..] else { panic!("{:?}", report.unexplained) };
    span
}

/// Asserts that one span is out of step, by this rule, and that its state speaks of `variable`.
#[track_caller]
pub(crate) fn assert_out_of_step(report: &ModuleReport, rule: Rule, variable: &str) {
    let span = the_unexplained(report);
    let Why::OutOfStep { rule: found, state } = &span.why else { panic!("{span:?}") };
    assert_eq!(*found, rule);
    assert!(state.contains(variable), "{state}");
}

/// Asserts that one span is a branch to a wrong place.
#[track_caller]
pub(crate) fn assert_wrong_target(report: &ModuleReport, rule: Rule, target: u64) {
    let why = &the_unexplained(report).why;
    assert_eq!(*why, Why::WrongTarget { rule, target: RunAddr(target) });
}

/// Asserts that one span of Text is not as a rule would make it.
#[track_caller]
pub(crate) fn assert_not_as(report: &ModuleReport, rule: Rule) {
    let span = the_unexplained(report);
    assert_eq!((span.kind, &span.why), (MemoryKind::Text, &Why::NotAsRule(rule)));
}
