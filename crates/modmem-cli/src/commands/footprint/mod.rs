//! `modmem footprint`: what module memory costs, in bytes, for one module or for a whole package.
//!
//! docs/footprint.md defines every number.

mod case;
mod content;
mod cost;
mod csv;
mod distribution;
mod load_only;
mod measure;
mod report;
mod table;

use std::collections::HashSet;

use anyhow::{Result, bail};
use modmem_linux::{Kernel, ModuleFile, Progress as _};

use crate::args::{FootprintArgs, Format};
use crate::output::{self, Bars, json};
use crate::session::OpenKernel;
use measure::Ruler;
use report::Report;

/// Modules that are measured in less than a blink need no bar.
const FEW: usize = 32;

pub(crate) fn run(arguments: &FootprintArgs) -> Result<()> {
    let bars = Bars::new();
    let kernel = OpenKernel::open_for_layout(&arguments.kernel, bars.clone())?;
    let modules = find(&kernel.files, arguments)?;
    if modules.len() > FEW {
        bars.phase("Measuring", Some(modules.len() as u64));
    }
    let footprints = Ruler::new(&kernel.profile).measure_all(&modules, &*bars);
    bars.done();
    let report = Report::of(&kernel, &modules, footprints);
    print(&report, if arguments.json { Format::Json } else { arguments.format })?;
    finish(&report)
}

/// The modules' files, each once. A module stands for itself alone unless its dependencies are asked for.
fn find(kernel: &Kernel, arguments: &FootprintArgs) -> Result<Vec<ModuleFile>> {
    let mut modules = Vec::new();
    for name in &arguments.modules {
        modules.extend(kernel.find(name)?);
    }
    if arguments.with_dependencies {
        let plan = kernel.load_order_of(&modules)?;
        modules = plan.modules.into_iter().map(|planned| planned.module).collect();
    }
    if arguments.all {
        modules.extend(kernel.modules().cloned());
    }
    let mut seen = HashSet::new();
    modules.retain(|module| seen.insert(module.path().to_owned()));
    if modules.is_empty() {
        bail!("the kernel has no modules");
    }
    Ok(modules)
}

fn print(report: &Report, format: Format) -> Result<()> {
    let text = match format {
        Format::Json => return json::print("footprint", report),
        Format::Csv => csv::lines(report),
        Format::Table => table::page(report),
    };
    Ok(output::print(&text)?)
}

/// Names what could not be measured, and makes that a failure.
fn finish(report: &Report) -> Result<()> {
    for failed in &report.failed {
        output::tell(&format!("{}: {}", failed.path, failed.reason));
    }
    match report.failed.len() {
        0 => Ok(()),
        count => bail!("{count} of {} modules could not be measured", count + report.modules.len()),
    }
}

#[cfg(test)]
mod tests;
