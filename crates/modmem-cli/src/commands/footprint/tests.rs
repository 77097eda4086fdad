//! Footprints of the sample modules, checked against their section tables.

use modmem::image::Image;
use modmem::profile::Profile;
use modmem_linux::{ModuleFile, Silent};

use super::case::{Case, Cut, PAGE_SIZES};
use super::measure::{Footprint, Ruler};
use super::report::Report;
use super::{csv, table};
use crate::args::KernelArgs;
use crate::output::Bars;
use crate::sample;
use crate::session::OpenKernel;

fn sample(name: &str) -> &'static [u8] {
    let end = format!("/{name}.ko");
    sample::FILES.iter().find(|(path, _)| path.ends_with(&end)).expect("a sample module").1
}

fn samples() -> impl Iterator<Item = (&'static str, Footprint)> {
    sample::FILES.iter().filter(|(path, _)| path.ends_with(".ko")).map(|(path, file)| (*path, measure(file)))
}

fn measure(file: &[u8]) -> Footprint {
    let image = Image::parse(file).expect("a module");
    Ruler::new(&Profile::named("6.12").unwrap()).measure(&image).expect("a footprint")
}

fn case(cut: Cut, page_size: u64) -> Case {
    Case { cut, page_size }
}

#[test]
fn what_is_allocated_is_what_is_needed_and_waste() {
    for (path, footprint) in samples() {
        for (Case { cut, page_size }, cost) in footprint.costs() {
            let needed = cost.core.needed + cost.init.needed;
            assert_eq!(cost.allocated(), needed + cost.waste(), "{path} {cut:?} {page_size}");
            assert_eq!(cost.allocated() % page_size, 0, "{path} {cut:?}");
            assert!(cost.core_waste() <= cost.waste(), "{path} {cut:?} {page_size}");
        }
    }
}

#[test]
fn linux_needs_the_same_bytes_however_it_cuts_them() {
    for (path, footprint) in samples() {
        for page_size in PAGE_SIZES {
            let old = footprint.cost(case(Cut::ModuleLayout, page_size));
            let new = footprint.cost(case(Cut::ModuleMemory, page_size));
            assert_eq!((old.core.needed, old.init.needed), (new.core.needed, new.init.needed), "{path}");
            // Every part of the old blocks began on a page of its own, as the seven memories do; so did kallsyms.
            assert_eq!(old.core.without_kallsyms, new.core.without_kallsyms, "{path}");
            assert_eq!(old.init.without_kallsyms, new.init.without_kallsyms, "{path}");
            assert!(old.core.allocated - new.core.allocated <= page_size, "{path}");
            assert!(old.core.blocks <= 1 && old.init.blocks <= 1, "{path}");
            // What aligns sections is the same; a page boundary before kallsyms is rounding.
            assert!(old.padding() <= new.padding(), "{path} {page_size}");
        }
    }
}

#[test]
fn larger_pages_never_need_less() {
    for (path, footprint) in samples() {
        for cut in Cut::ALL {
            let bytes = PAGE_SIZES.map(|page_size| footprint.cost(case(cut, page_size)).allocated());
            assert!(bytes.is_sorted(), "{path} {cut:?} {bytes:?}");
        }
    }
}

#[test]
fn a_block_per_section_has_no_padding_and_no_symbol_tables() {
    for (path, footprint) in samples() {
        let cost = footprint.cost(case(Cut::BlockPerSection, 4096));
        assert_eq!(cost.padding(), 0, "{path}");
        assert_eq!(cost.core.needed, footprint.content.core_sections, "{path}");
        assert_eq!(cost.init.needed, footprint.content.init_sections, "{path}");
        assert_eq!(cost.core.allocated, cost.core.without_kallsyms, "{path}");
    }
}

#[test]
fn without_kallsyms_linux_never_needs_more() {
    for (path, footprint) in samples() {
        for (case, cost) in footprint.costs() {
            assert!(cost.core.without_kallsyms <= cost.core.allocated, "{path} {case:?}");
            assert!(cost.init.without_kallsyms <= cost.init.allocated, "{path} {case:?}");
        }
    }
}

#[test]
fn a_sum_is_the_sum_of_every_number() {
    let (one, two) = (measure(sample("sample_core")), measure(sample("sample_fs")));
    let mut sum = one;
    sum += two;
    for ((case, cost), (_, first), (_, second)) in
        sum.costs().zip(one.costs()).zip(two.costs()).map(|((a, b), c)| (a, b, c))
    {
        let parts = first.fields(case.page_size).into_iter().zip(second.fields(case.page_size));
        for ((name, number), (part, other)) in cost.fields(case.page_size).into_iter().zip(parts) {
            assert_eq!(number, part.1 + other.1, "{name}");
        }
    }
    assert_eq!(sum.content.core(), one.content.core() + two.content.core());
}

#[test]
fn sample_nodata_costs_what_its_section_table_says() {
    let footprint = measure(sample("sample_nodata"));
    let content = footprint.content;
    // Notes 0x24 + 0x3c, text 0x23, export tables 0xc + 4 + 0x13, struct module 0x500.
    assert_eq!(content.core_sections, 0x60 + 0x23 + 0x23 + 0x500);
    assert_eq!((content.text, content.init_sections), (0x23, 0));
    // The symbol table 0x168 and its names 0xb8, struct mod_kallsyms 32, a type letter for each of 15 symbols.
    assert_eq!(content.init_kallsyms, 0x168 + 0xb8 + 32 + 15);
    let new = footprint.cost(case(Cut::ModuleMemory, 4096));
    // Text, data, read-only data; the symbol table while it loads.
    assert_eq!((new.core.blocks, new.core.allocated), (3, 3 * 4096));
    assert_eq!((new.init.blocks, new.init.allocated), (1, 4096));
    let old = footprint.cost(case(Cut::ModuleLayout, 4096));
    // The same in one block, and its kept symbols on a page of their own.
    assert_eq!((old.core.blocks, old.core.allocated), (1, 4 * 4096));
    assert_eq!((old.init.blocks, old.init.allocated), (1, 4096));
    // Every section ends where the next may begin: after 0x60 bytes of notes come 0xc, 4 and 0x13 bytes.
    assert_eq!((old.padding(), old.rounding()), (0, 5 * 4096 - content.core() - content.init()));
    let sections = footprint.cost(case(Cut::BlockPerSection, 64 << 10));
    // Two notes, text, two export tables, their strings, struct module.
    assert_eq!((sections.core.blocks, sections.core.allocated), (7, 7 << 16));
    assert_eq!(sections.init.blocks, 0);
}

#[test]
fn sample_core_s_shares_are_those_of_its_section_table() {
    let content = measure(sample("sample_core")).content;
    assert_eq!(content.text, 0x11b + 0x2e);
    assert_eq!(content.init_sections, 0xa6 + 0x15);
    assert_eq!(content.load_only.sections(), [("__mcount_loc", 0x30)]);
    assert_eq!((content.orc, content.percpu), (0, 0x10));
}

#[test]
fn without_kallsyms_in_the_kernel_there_is_none_to_pay_for() {
    let mut profile = Profile::named("6.12").unwrap();
    profile.switches.kallsyms = false;
    let image = Image::parse(sample("sample_nodata")).unwrap();
    let footprint = Ruler::new(&profile).measure(&image).unwrap();
    assert_eq!((footprint.content.core_kallsyms, footprint.content.init_kallsyms), (0, 0));
    let new = footprint.cost(case(Cut::ModuleMemory, 4096));
    assert_eq!(new.core.allocated, new.core.without_kallsyms);
    assert_eq!(new.init.allocated, 0);
}

/// The report on the sample kernel's modules and on one file that is no module.
fn report() -> Report {
    let arguments = KernelArgs { kernel: vec!["sample".into()], ..KernelArgs::default() };
    let kernel = OpenKernel::open_for_layout(&arguments, Bars::new()).expect("the sample kernel");
    let mut modules: Vec<ModuleFile> = kernel.files.modules().cloned().collect();
    modules.insert(1, ModuleFile::outside(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")));
    let footprints = Ruler::new(&kernel.profile).measure_all(&modules, &Silent);
    Report::of(&kernel, &modules, footprints)
}

#[test]
fn what_is_no_module_is_named_and_left_out() {
    let report = report();
    assert_eq!(report.modules.len(), samples().count());
    let [failed] = &report.failed[..] else { panic!("{:?}", report.failed) };
    assert!(failed.path.ends_with("Cargo.toml") && failed.reason.contains("ELF"), "{}", failed.reason);
    assert!(super::finish(&report).is_err());
}

#[test]
fn csv_has_a_line_a_case_and_its_totals_are_the_sums() {
    let report = report();
    let text = csv::lines(&report);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 1 + (report.modules.len() + 1) * Case::COUNT);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()));
    let (modules, totals) = lines[1..].split_at(report.modules.len() * Case::COUNT);
    for total in totals {
        assert_eq!(total[..2], ["total", ""]);
        for column in 4..total.len() {
            let same = modules.iter().filter(|line| line[2..4] == total[2..4]);
            let sum: u64 = same.map(|line| line[column].parse::<u64>().unwrap()).sum();
            assert_eq!(total[column], sum.to_string(), "{} of {:?}", lines[0][column], &total[2..4]);
        }
    }
}

#[test]
fn json_has_the_numbers_under_the_names_of_csv() {
    let report = report();
    let json = serde_json::to_value(&report).unwrap();
    let header = csv::lines(&report).lines().next().unwrap().to_owned();
    let first = &json["modules"][0];
    for name in header.split(',').skip(2) {
        let found = [&first["content"][name], &first["layouts"][0][name]];
        assert!(found.iter().any(|value| !value.is_null()), "{name}");
    }
    assert_eq!(json["total"]["layouts"].as_array().unwrap().len(), Case::COUNT);
    assert_eq!(json["distribution"]["modules"], report.modules.len());
    assert!(json["assumptions"].as_array().unwrap().len() > 3);
}

#[test]
fn a_table_states_what_its_numbers_rest_on() {
    let text = table::page(&report());
    for assumption in super::report::ASSUMPTIONS {
        assert!(text.contains(assumption), "{assumption}");
    }
    assert!(text.contains("64 KiB pages") && text.contains("most waste"));
}
