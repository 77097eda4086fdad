//! What is known of one file, as data.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use modmem::Layout;
use modmem::arch::Machine;
use modmem::image::elf::{ByteOrder, Class, section_flag, section_type};
use modmem::image::{Image, Section, SymbolPlace};
use modmem::layout::{MemoryKind, Shape, classify};
use modmem::profile::Profile;
use modmem_linux::module_fields;

use crate::output::json::Kind;

/// One entry of the document `modmem.info`.
#[derive(Debug, Serialize)]
pub(crate) struct FileReport {
    pub(crate) file: String,
    /// Bytes of the file, the signature trailer included.
    pub(crate) size: usize,
    pub(crate) name: String,
    pub(crate) machine: String,
    pub(crate) class: &'static str,
    pub(crate) byte_order: &'static str,
    pub(crate) profile: String,
    pub(crate) proven: bool,
    /// Why types and sizes are not the whole truth, if they are not.
    pub(crate) caveat: Option<String>,
    /// Why the module cannot be laid out, if it cannot.
    pub(crate) layout_error: Option<String>,
    pub(crate) modinfo: Vec<Field>,
    pub(crate) memories: Vec<MemoryReport>,
    pub(crate) blocks: usize,
    pub(crate) percpu_size: u64,
    /// Bytes of tables that Text begins with, made by the loader.
    pub(crate) text_head: u64,
    pub(crate) sections: Vec<SectionReport>,
    pub(crate) relocations: Vec<RelocationReport>,
    pub(crate) imports: Vec<Import>,
    pub(crate) exports: Vec<ExportReport>,
    pub(crate) parameters: Vec<ParameterReport>,
    pub(crate) symbols: usize,
    pub(crate) core_symbols: Option<u64>,
    pub(crate) signature: Option<SignatureReport>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Field {
    pub(crate) key: String,
    /// As it is: whoever prints it makes it harmless.
    pub(crate) value: String,
}

/// One module that is part of the kernel.
#[derive(Debug, Serialize)]
pub(crate) struct BuiltInReport {
    pub(crate) name: String,
    pub(crate) release: String,
    pub(crate) modinfo: Vec<Field>,
}

impl BuiltInReport {
    pub(crate) fn of(name: &str, release: String, fields: &[(String, String)]) -> BuiltInReport {
        let field = |(key, value): &(String, String)| Field { key: key.clone(), value: value.clone() };
        BuiltInReport { name: name.to_owned(), release, modinfo: fields.iter().map(field).collect() }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct MemoryReport {
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) used: u64,
    pub(crate) allocated: u64,
    pub(crate) sections: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct SectionReport {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) alignment: u64,
    /// `A` ALLOC, `W` WRITE, `X` EXECINSTR, `N` NOBITS.
    pub(crate) flags: String,
    #[serde(rename = "type")]
    pub(crate) kind: Option<Kind>,
    /// Offset in that memory.
    pub(crate) offset: Option<u64>,
    /// Which rule gave it the type, or why it has none.
    pub(crate) rule: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct RelocationReport {
    #[serde(rename = "type")]
    pub(crate) kind: u32,
    pub(crate) name: Option<&'static str>,
    pub(crate) count: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) weak: bool,
    pub(crate) crc: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ExportReport {
    pub(crate) name: String,
    pub(crate) gpl_only: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct ParameterReport {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) description: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SignatureReport {
    pub(crate) kind: &'static str,
    pub(crate) size: usize,
    pub(crate) hash: Option<String>,
}

impl FileReport {
    pub(crate) fn of(path: &str, file: &[u8], image: &Image<'_>, profile: &Profile) -> Result<FileReport> {
        let foreign = image.machine() != profile.machine;
        let (layout, layout_error) = match Layout::of(image, profile) {
            Ok(layout) => (Some(layout), None),
            Err(_) if foreign => (None, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let sections = sections(image, profile, layout.as_ref());
        let format = image.format();
        Ok(FileReport {
            file: path.to_owned(),
            size: file.len(),
            name: image.name().to_text(),
            machine: image.machine().to_string(),
            class: if format.class == Class::Elf64 { "ELF64" } else { "ELF32" },
            byte_order: if format.order == ByteOrder::Little { "little" } else { "big" },
            profile: format!("Linux {}", profile.version),
            proven: profile.is_proven() && !foreign,
            caveat: foreign.then(|| caveat(image.machine())),
            layout_error,
            modinfo: modinfo(file),
            memories: layout.as_ref().map(|layout| memories(layout, &sections)).unwrap_or_default(),
            blocks: layout.as_ref().map_or(0, |layout| layout.blocks().len()),
            text_head: layout.as_ref().map_or(0, Layout::text_head),
            percpu_size: layout.as_ref().and_then(Layout::percpu).map_or(0, |percpu| percpu.size),
            relocations: relocations(image),
            imports: imports(image),
            exports: image
                .exports()
                .map(|(name, gpl_only)| ExportReport { name: name.to_text(), gpl_only })
                .collect(),
            parameters: parameters(image),
            symbols: image.symbols().len(),
            core_symbols: layout.as_ref().and_then(Layout::kallsyms).map(|kallsyms| kallsyms.core_count),
            signature: image.signature().map(|signature| SignatureReport {
                kind: "PKCS#7",
                size: signature.message.len(),
                hash: signature.hash().map(|hash| hash.to_string()),
            }),
            sections,
        })
    }
}

fn modinfo(file: &[u8]) -> Vec<Field> {
    // Parameters have a table of their own.
    let fields =
        module_fields(file).into_iter().filter(|field| field.key != b"parm" && field.key != b"parmtype");
    fields.map(|field| Field { key: plain(&field.key), value: plain(&field.value) }).collect()
}

/// Text as it is, control characters too: JSON escapes them itself.
fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn memories(layout: &Layout, sections: &[SectionReport]) -> Vec<MemoryReport> {
    let memory = |kind: MemoryKind| {
        let memory = layout.memories()[kind];
        let inside = sections.iter().filter(|section| section.kind.is_some_and(|k| k.0 == kind));
        (memory.allocated > 0).then(|| MemoryReport {
            kind: Kind(kind),
            used: memory.used,
            allocated: memory.allocated,
            sections: inside.count(),
        })
    };
    MemoryKind::ALL.into_iter().filter_map(memory).collect()
}

/// What is missing for a module that is not for the kernel's machine.
fn caveat(machine: Machine) -> String {
    let reason = match machine.format() {
        Ok(_) => "the module is for another machine than the kernel".to_owned(),
        Err(not_built) => not_built.to_string(),
    };
    format!(
        "{reason}; types follow the rules that all machines share, without PLT, GOT and the machine's own exceptions, \
         and there are no sizes"
    )
}

fn sections(image: &Image<'_>, profile: &Profile, layout: Option<&Layout>) -> Vec<SectionReport> {
    let report = |section: &Section<'_>| {
        let shape = layout.map_or_else(|| Shape::of(section), |layout| layout.shape(section));
        let (kind, rule) = match classify(image, profile, section, shape.flags) {
            Ok((kind, rule)) => {
                let init = if kind.is_init() { ", init by name" } else { "" };
                let init = if rule == modmem::layout::Rule::Kallsyms { "" } else { init };
                (Some(Kind(kind)), format!("{rule}{init}"))
            }
            Err(reason) => (None, reason.to_string()),
        };
        SectionReport {
            index: section.index(),
            name: section.name().to_text(),
            size: shape.size,
            alignment: shape.alignment,
            flags: flags(section),
            kind,
            offset: layout.and_then(|layout| layout.place(section.index())).map(|place| place.offset),
            rule,
        }
    };
    image.sections().iter().skip(1).map(report).collect()
}

fn flags(section: &Section<'_>) -> String {
    let bits = section.flags();
    let all = [
        (bits & section_flag::ALLOC != 0, 'A'),
        (bits & section_flag::WRITE != 0, 'W'),
        (bits & section_flag::EXECINSTR != 0, 'X'),
        (section.kind() == section_type::NOBITS, 'N'),
    ];
    all.into_iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect()
}

fn relocations(image: &Image<'_>) -> Vec<RelocationReport> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for section in image.relocations() {
        for relocation in section.iter() {
            *counts.entry(relocation.kind).or_default() += 1;
        }
    }
    let report =
        |(kind, count)| RelocationReport { kind, name: image.machine().relocation_name(kind), count };
    let mut reports: Vec<_> = counts.into_iter().map(report).collect();
    reports.sort_by_key(|report| std::cmp::Reverse(report.count));
    reports
}

fn imports(image: &Image<'_>) -> Vec<Import> {
    let versions: BTreeMap<_, _> = match image.extended_versions() {
        Some(versions) => versions.iter().map(|version| (version.name, version.crc)).collect(),
        None => image.versions().iter().map(|version| (version.name, version.crc)).collect(),
    };
    let undefined = image.symbols().iter().skip(1).filter(|symbol| symbol.place == SymbolPlace::Undefined);
    let import = |symbol: modmem::image::Symbol<'_>| Import {
        name: symbol.name.to_text(),
        weak: symbol.weak,
        crc: versions.get(&symbol.name).copied(),
    };
    let mut imports: Vec<Import> = undefined.map(import).collect();
    imports.sort_by(|a, b| a.name.cmp(&b.name));
    imports
}

fn parameters(image: &Image<'_>) -> Vec<ParameterReport> {
    let report = |parameter: modmem::image::Parameter<'_>| ParameterReport {
        name: plain(&parameter.name),
        kind: parameter.kind.map(|kind| plain(&kind)),
        description: parameter.description.map(|text| plain(&text)),
    };
    image.parameters().map(report).collect()
}
