//! Sections and memories: every section at the kernel's offset, every memory of the kernel's size.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use modmem::image::Image;
use modmem::layout::{Layout, MemoryKind};

use super::Differences;
use crate::oracle::Oracle;

/// How much was compared.
#[derive(Debug, Default)]
pub struct Layouts {
    /// Modules.
    pub modules: usize,
    /// Sections, each with memory and offset.
    pub sections: usize,
    /// Blocks whose size is that of a vmalloc area of the kernel's.
    pub areas: usize,
    /// Texts in huge pages that they share with others: nobody reports their sizes.
    pub shared: usize,
    /// Init memories among the areas: the module had not returned from init.
    pub init_areas: usize,
    /// What differs.
    pub differences: Differences,
}

/// Lays out all modules of a recording.
///
/// # Errors
/// A module cannot be laid out.
pub fn layouts(oracle: &Oracle) -> Result<Layouts> {
    let profile = oracle.profile()?;
    let (page_size, text_pack) = (profile.page_size, profile.text_pack);
    let kernel = Kernel { oracle, page_size, text_pack, data_apart: profile.switches.data_in_vmalloc };
    let mut result = Layouts::default();
    for name in &oracle.order {
        let file = oracle.files.get(name).with_context(|| format!("{name}: no file"))?;
        let image = Image::parse(file).with_context(|| name.clone())?;
        let layout = Layout::of(&image, &profile).with_context(|| name.clone())?;
        kernel.compare(name, &image, &layout, &mut result);
        result.modules += 1;
    }
    Ok(result)
}

/// One recorded kernel.
struct Kernel<'o> {
    oracle: &'o Oracle,
    page_size: u64,
    text_pack: Option<u64>,
    /// Whether coresize has text alone.
    data_apart: bool,
}

impl Kernel<'_> {
    fn compare(&self, name: &str, image: &Image<'_>, layout: &Layout, result: &mut Layouts) {
        let differences = &mut result.differences;
        let Some(reported) = self.oracle.sections.get(name) else {
            return differences.push(format!("{name}: the kernel reports no sections"));
        };
        let (mut bases, mut seen) = (BTreeMap::new(), 0);
        for section in image.sections() {
            let section_name = section.name().to_text();
            let size = layout.shape(section).size;
            match (layout.place(section.index()), reported.get(&section_name)) {
                (Some(place), Some(address)) if size > 0 => {
                    let base = address.wrapping_sub(place.offset);
                    let first = *bases.entry(place.kind).or_insert(base);
                    if base != first {
                        differences.push(format!(
                            "{name}: {section_name} lies at {address:#x}, not at offset {:#x} of {}",
                            place.offset, place.kind
                        ));
                    }
                    seen += 1;
                }
                (Some(_), None) if size > 0 => {
                    differences.push(format!("{name}: no {section_name} in the kernel"));
                }
                (_, Some(_)) => differences.push(format!("{name}: the kernel keeps {section_name}")),
                (_, None) => {}
            }
        }
        if seen != reported.len() {
            differences.push(format!("{name}: the kernel reports {} sections, not {seen}", reported.len()));
        }
        result.sections += seen;
        self.compare_sizes(name, layout, &bases, result);
    }

    fn compare_sizes(
        &self,
        name: &str,
        layout: &Layout,
        bases: &BTreeMap<MemoryKind, u64>,
        result: &mut Layouts,
    ) {
        let (oracle, differences) = (self.oracle, &mut result.differences);
        // Init memory is there as long as the kernel says so.
        let init_size =
            oracle.modinfo.get(name).and_then(|values| value(values, "init=")).unwrap_or_default();
        let bytes = |init: bool| -> u64 {
            let memories = layout.memories().iter().filter(|(kind, _)| kind.is_init() == init);
            memories.map(|(_, memory)| memory.allocated).sum()
        };
        let core = match self.data_apart {
            true => layout.memories()[MemoryKind::Text].allocated,
            false => bytes(false),
        };
        if oracle.core_sizes.get(name) != Some(&core) {
            differences.push(format!("{name}: coresize {:?}, not {core}", oracle.core_sizes.get(name)));
        }
        if init_size != 0 && init_size != bytes(true) {
            differences.push(format!("{name}: initsize {init_size}, not {}", bytes(true)));
        }
        for block in layout.blocks() {
            // The address of a block that holds no section with bytes is not reported.
            let (Some(&base), true) = (bases.get(&block.kind), init_size != 0 || !block.kind.is_init())
            else {
                continue;
            };
            let before = oracle.areas.range(..=base).next_back();
            if !base.is_multiple_of(self.page_size) {
                differences.push(format!("{name}: {} begins inside a page, at {base:#x}", block.kind));
            }
            let pack = self.text_pack.filter(|_| block.kind.is_text());
            match (before, pack) {
                (Some((&start, &size)), None) if start == base && size == block.size + self.page_size => {
                    result.areas += 1;
                    result.init_areas += usize::from(block.kind.is_init());
                }
                // With the text of other modules in packs, several of which may be one area.
                (Some((&start, &size)), Some(pack))
                    if start.is_multiple_of(pack)
                        && (size - self.page_size).is_multiple_of(pack)
                        && base + block.size <= start + size - self.page_size =>
                {
                    result.shared += 1;
                }
                _ => differences.push(format!(
                    "{name}: {} of {:#x} bytes at {base:#x}, where the kernel has {before:x?}",
                    block.kind, block.size
                )),
            }
        }
        if !bases.contains_key(&MemoryKind::Data) {
            differences.push(format!("{name}: no section lies in Data"));
        }
    }
}

fn value(values: &str, key: &str) -> Option<u64> {
    values.split(' ').find_map(|word| word.strip_prefix(key)?.parse().ok())
}
