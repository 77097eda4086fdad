//! What the command found, as data: the JSON document `modmem.footprint`, and what the texts are made from.

use anyhow::Result;
use modmem_linux::ModuleFile;
use serde::{Serialize, Serializer};

use super::case::Case;
use super::content::Content;
use super::cost::Cost;
use super::distribution::Distribution;
use super::measure::Footprint;
use crate::session::OpenKernel;

/// What the numbers rest on.
pub(crate) const ASSUMPTIONS: [&str; 7] = [
    "All layouts are of the same files under the same configuration; only how memory is cut differs.",
    "Sections are those that Linux keeps: not .modinfo and __versions, which it reads and drops, and not \
     .data..percpu, which every CPU has a copy of elsewhere.",
    "A block per section: each section that is not empty in whole pages of its own, and no symbol tables; compare it \
     with the lines without kallsyms.",
    "16 and 64 KiB pages: what these files would take; kernels with such pages are for other machines, whose \
     modules differ.",
    "Guard pages, one a block, take addresses and no memory; they are in no other number.",
    "No page is shared between modules. (Linux 6.15 and later can share huge pages of text.)",
    "Page tables, what the allocator keeps for each block, and the file's copy while it loads are not counted.",
];

/// The document `modmem.footprint`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) kernel: KernelReport,
    pub(crate) assumptions: [&'static str; ASSUMPTIONS.len()],
    pub(crate) total: FootprintReport,
    pub(crate) distribution: Distribution,
    pub(crate) modules: Vec<ModuleReport>,
    pub(crate) failed: Vec<FailedReport>,
}

#[derive(Debug, Serialize)]
pub(crate) struct KernelReport {
    pub(crate) release: String,
    /// Where its files come from.
    pub(crate) source: String,
    /// The version whose rules were used.
    pub(crate) profile: String,
    pub(crate) proven: bool,
    /// What limits how far the result can be trusted.
    pub(crate) remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ModuleReport {
    pub(crate) name: String,
    pub(crate) path: String,
    #[serde(flatten)]
    pub(crate) footprint: FootprintReport,
}

#[derive(Debug, Serialize)]
pub(crate) struct FailedReport {
    pub(crate) module: String,
    pub(crate) path: String,
    pub(crate) reason: String,
}

impl Report {
    /// `footprints` are those of `modules`, in their order.
    pub(crate) fn of(
        kernel: &OpenKernel,
        modules: &[ModuleFile],
        footprints: Vec<Result<Footprint>>,
    ) -> Report {
        let (mut total, mut measured, mut failed) = (Footprint::default(), Vec::new(), Vec::new());
        for (module, footprint) in modules.iter().zip(footprints) {
            let (name, path) = (module.name().to_owned(), module.path().to_owned());
            match footprint {
                Ok(footprint) => {
                    total += footprint;
                    measured.push(ModuleReport { name, path, footprint: FootprintReport(footprint) });
                }
                Err(error) => {
                    failed.push(FailedReport { module: name, path, reason: crate::explain(&error) })
                }
            }
        }
        Report {
            kernel: KernelReport {
                release: kernel.files.release().to_owned(),
                source: kernel.files.describe(),
                profile: kernel.profile_name(),
                proven: kernel.is_proven(),
                remarks: kernel.remarks(),
            },
            assumptions: ASSUMPTIONS,
            total: FootprintReport(total),
            distribution: Distribution::of(&measured),
            modules: measured,
            failed,
        }
    }
}

/// A footprint as it is written: its content, then a list of layouts.
#[derive(Debug)]
pub(crate) struct FootprintReport(pub(crate) Footprint);

impl Serialize for FootprintReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'f> {
            content: ContentReport<'f>,
            layouts: Vec<CostReport<'f>>,
        }
        let layouts = self.0.costs().map(|(case, cost)| CostReport { case, cost }).collect();
        Written { content: ContentReport(&self.0.content), layouts }.serialize(serializer)
    }
}

struct ContentReport<'f>(&'f Content);

impl Serialize for ContentReport<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let fields = self.0.fields();
        let mut map = serializer.serialize_map(Some(fields.len() + 1))?;
        for (name, number) in fields {
            map.serialize_entry(name, &number)?;
        }
        map.serialize_entry("load_only_sections", &Sections(self.0.load_only.sections()))?;
        map.end()
    }
}

/// Bytes by section name, as an object.
struct Sections(Vec<(&'static str, u64)>);

impl Serialize for Sections {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

struct CostReport<'f> {
    case: Case,
    cost: &'f Cost,
}

impl Serialize for CostReport<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let Case { cut, page_size } = self.case;
        let fields = self.cost.fields(page_size);
        let mut map = serializer.serialize_map(Some(fields.len() + 2))?;
        map.serialize_entry("layout", cut.name())?;
        map.serialize_entry("page_size", &page_size)?;
        for (name, number) in fields {
            map.serialize_entry(name, &number)?;
        }
        map.end()
    }
}
