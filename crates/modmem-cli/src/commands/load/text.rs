//! What a load came to, as text: tables for wide terminals, lines for pipes.

use std::fmt::Write as _;

use super::report::{MemoryReport, ModuleReport, Report, SectionReport, Total};
use crate::output::{Column, DIM, TITLE, address, bytes, grouped, harmless, table};

/// For people: a paragraph a module.
pub(crate) fn tables(report: &Report, verbose: bool) -> String {
    let mut text = String::new();
    for module in &report.modules {
        let (title, plain) = (TITLE.render(), TITLE.render_reset());
        let (dim, bright) = (DIM.render(), DIM.render_reset());
        let (why, path) = (harmless(&module.why), harmless(&module.path));
        push(&mut text, &format!("{title}{}{plain}  {dim}{why}, {path}{bright}", heading(module)));
        push(&mut text, &memory_table(&module.memories));
        if !module.sections.is_empty() {
            push(&mut text, &section_table(&module.sections));
        }
        push(&mut text, &format!("  {}", work(module)));
        text.push('\n');
    }
    let total = &report.total;
    push(
        &mut text,
        &format!("{}{} in total{}", TITLE.render(), counted(total.modules, "module"), TITLE.render_reset()),
    );
    push(&mut text, &total_table(total));
    push(&mut text, &format!("  {}", total_work(total)));
    text.push('\n');
    push(&mut text, &kernel(report));
    text.push_str(&machine(report, verbose));
    text
}

/// For pipes: a line a memory, each of which stands for itself.
pub(crate) fn lines(report: &Report, verbose: bool) -> String {
    let mut text = String::new();
    for module in &report.modules {
        for memory in &module.memories {
            let MemoryReport { used, allocated, protection, .. } = memory;
            let (kind, start) = (memory.kind.0, address(memory.address.0));
            let state = if memory.discarded { "discarded" } else { "present" };
            push(
                &mut text,
                &format!(
                    "{} {kind:<11} {start} used {used:>8} allocated {allocated:>8} {protection} {state}",
                    module.name
                ),
            );
        }
        for section in &module.sections {
            let SectionReport { name, offset, size, .. } = section;
            let (kind, start) = (section.kind.0, address(section.address.0));
            push(&mut text, &format!("{} section {start} {kind} {offset:#x} {size:#x} {name}", module.name));
        }
        push(&mut text, &format!("{}: {}", heading(module), work(module)));
    }
    for sum in &report.total.memories {
        let (kind, used, allocated) = (sum.kind.0, sum.used, sum.allocated);
        push(
            &mut text,
            &format!(
                "total {kind:<11} used {used} allocated {allocated} in {}",
                counted(sum.modules, "module")
            ),
        );
    }
    push(
        &mut text,
        &format!("total: {}; {}", counted(report.total.modules, "module"), total_work(&report.total)),
    );
    push(&mut text, &kernel(report));
    text.push_str(&machine(report, verbose));
    text
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn heading(module: &ModuleReport) -> String {
    let mut heading = module.name.clone();
    for argument in &module.arguments {
        heading.push(' ');
        heading.push_str(&harmless(argument));
    }
    if !module.taints.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(heading, " ({})", module.taints);
    }
    heading
}

/// So many of a thing.
fn counted(count: usize, thing: &str) -> String {
    format!("{} {thing}{}", grouped(count as u64), if count == 1 { "" } else { "s" })
}

fn memory_table(memories: &[MemoryReport]) -> String {
    let columns = [
        Column::Left("memory"),
        Column::Left("address"),
        Column::Right("used"),
        Column::Right("allocated"),
        Column::Left("protection"),
    ];
    table(
        &columns,
        memories.iter().map(|memory| {
            let state = if memory.discarded { " discarded after init" } else { "" };
            vec![
                memory.kind.0.to_string(),
                address(memory.address.0),
                grouped(memory.used),
                grouped(memory.allocated),
                format!("{}{state}", memory.protection),
            ]
        }),
    )
}

fn section_table(sections: &[SectionReport]) -> String {
    let columns = [
        Column::Left("section"),
        Column::Left("address"),
        Column::Right("size"),
        Column::Left("memory"),
        Column::Right("offset"),
    ];
    table(
        &columns,
        sections.iter().map(|section| {
            vec![
                section.name.clone(),
                address(section.address.0),
                grouped(section.size),
                section.kind.0.to_string(),
                format!("{:#x}", section.offset),
            ]
        }),
    )
}

fn total_table(total: &Total) -> String {
    let columns =
        [Column::Left("memory"), Column::Right("modules"), Column::Right("used"), Column::Right("allocated")];
    table(
        &columns,
        total.memories.iter().map(|sum| {
            vec![
                sum.kind.0.to_string(),
                grouped(sum.modules as u64),
                grouped(sum.used),
                grouped(sum.allocated),
            ]
        }),
    )
}

/// What linking did, in one line.
fn work(module: &ModuleReport) -> String {
    let symbols = &module.symbols;
    let count = symbols.kernel + module.symbols_from_modules();
    let mut line = counted(module.relocations, "relocation");
    let mut from = Vec::new();
    if symbols.kernel > 0 {
        from.push(format!("{} kernel", grouped(symbols.kernel as u64)));
    }
    from.extend(symbols.modules.iter().map(|p| format!("{} {}", grouped(p.symbols as u64), p.module)));
    let _ = write!(line, "; {} resolved", counted(count, "symbol"));
    if !from.is_empty() {
        let _ = write!(line, " ({})", from.join(", "));
    }
    if symbols.weak_unresolved > 0 {
        let _ = write!(line, ", {} weak without definition", symbols.weak_unresolved);
    }
    if module.exports > 0 {
        let _ = write!(line, "; exports {}", grouped(module.exports as u64));
    }
    if let Some(percpu) = &module.percpu {
        let _ = write!(line, "; {} percpu bytes at {:#x}", grouped(percpu.size), percpu.offset.0);
    }
    match module.state {
        "coming" => line.push_str("; init has not run"),
        _ => {
            let _ = write!(line, "; init discard gave back {}", bytes(module.given_back));
        }
    }
    line
}

fn total_work(total: &Total) -> String {
    format!(
        "{}; {} resolved ({} kernel, {} modules); init discard gave back {}",
        counted(total.relocations, "relocation"),
        counted(total.symbols_from_kernel + total.symbols_from_modules, "symbol"),
        grouped(total.symbols_from_kernel as u64),
        grouped(total.symbols_from_modules as u64),
        bytes(total.given_back),
    )
}

/// The machine in a line; with all that its kernel goes by, if that is asked for.
fn machine(report: &Report, verbose: bool) -> String {
    let Some(machine) = &report.machine else { return String::new() };
    let assumed = machine.state.iter().filter(|variable| !variable.told).count();
    let mut text =
        format!("machine: {}; {}", harmless(&machine.about), counted(machine.state.len(), "variable"));
    if assumed > 0 {
        let _ = write!(text, ", of which {} assumed", grouped(assumed as u64));
    }
    text.push('\n');
    for variable in machine.state.iter().filter(|_| verbose) {
        let told = if variable.told { "" } else { " (assumed)" };
        let _ = writeln!(text, "  {} = {}{told}", variable.variable, harmless(&variable.value));
    }
    text
}

fn kernel(report: &Report) -> String {
    let kernel = &report.kernel;
    let mut text = format!("kernel {} from {}, profile {}", kernel.release, kernel.source, kernel.profile);
    let _ = match kernel.symbol_count {
        0 => write!(text, "\nno kernel symbols: nothing of the kernel's tells them"),
        count => write!(text, "\n{} from {}", counted(count, "kernel symbol"), kernel.symbols),
    };
    for remark in &kernel.remarks {
        let _ = write!(text, "\nnote: {remark}");
    }
    text
}
