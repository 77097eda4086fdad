//! Reading: every view of an image that parses can be walked to its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modmem::Image;
use modmem::image::Section;
use modmem::layout::{Layout, classify};
use modmem::profile::{MemoryModel, Profile};

fuzz_target!(|file: &[u8]| {
    let Ok(image) = Image::parse(file) else { return };
    let _ = (image.name().to_text(), image.signature().and_then(|signature| signature.hash()));
    let _ = image.symbols().iter().map(|symbol| symbol.name.len()).sum::<usize>();
    let _ = image.versions().iter().count() + image.parameters().count() + image.exports().count();
    for relocations in image.relocations() {
        let symbols = image.symbols().len();
        assert!(
            relocations
                .iter()
                .all(|r| (r.symbol as usize) < symbols && r.offset < relocations.target().size())
        );
    }
    for version in ["6.1", "6.12", "7.2"] {
        let Ok(mut profile) = Profile::named_for(image.machine(), version) else { return };
        // Every other time on a machine that needs more room for tables.
        for strict in [true, false] {
            profile.switches.strict_module_rwx = strict;
            (profile.machine_state.erratum_843419, profile.machine_state.expolines) = (!strict, !strict);
            let kept = |section: &&Section<'_>| classify(&image, &profile, section, section.flags()).is_ok();
            let _ = image.sections().iter().filter(kept).count();
            let Ok(layout) = Layout::of(&image, &profile) else { continue };
            for (section, place) in image.sections().iter().zip(layout.places()) {
                let Some(place) = place else { continue };
                let memory = layout.memories()[place.kind];
                let shape = layout.shape(section);
                assert!(place.offset + shape.size <= memory.used);
                // Linux rounds up by a mask: what is no power of two aligns to nothing that can be said.
                let aligned = !shape.alignment.is_power_of_two() || place.offset % shape.alignment == 0;
                assert!(profile.model == MemoryModel::ModuleLayout || aligned);
                assert!(memory.used <= memory.allocated || !strict);
            }
        }
    }
});
