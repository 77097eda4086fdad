//! Telling images apart: a layout is of one of them, and a placement is to be filled with that one only.

use core::hash::{BuildHasher as _, Hasher as _};

use crate::image::Image;
use crate::seed::Seeded;

/// What a layout remembers of its image. Two images with one mark are laid out alike but for their symbols' names, which
/// whoever writes these checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageMark {
    length: usize,
    symbols: usize,
    headers: u64,
}

impl ImageMark {
    pub(super) fn of(image: &Image<'_>) -> ImageMark {
        let mut hasher = Seeded.build_hasher();
        for section in image.sections() {
            hasher.write_u64(section.flags());
            hasher.write_u64(section.size());
            hasher.write_u64(section.alignment());
            hasher.write_u64(section.offset());
            hasher.write_u64(u64::from(section.kind()) << 32 | u64::from(section.info()));
        }
        ImageMark { length: image.length(), symbols: image.symbols().len(), headers: hasher.finish() }
    }
}
