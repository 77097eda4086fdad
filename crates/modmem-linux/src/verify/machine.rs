//! What kind of machine it is, where modules lie in another way on another kind.

use modmem::Image;
use modmem::profile::Profile;
use modmem::verify::lies_as;

use super::{FileSource, guest_module, is_live, sections};
use crate::Error;
use crate::snapshot::ModuleRecord;

/// Enough modules that fit one kind of machine and not the other: a single one may be anything.
const ENOUGH: i32 = 5;

/// The profile on the kind of machine that most modules lie as on.
pub(super) fn of(
    profile: Profile,
    records: &[&ModuleRecord],
    files: &mut FileSource<'_>,
) -> Result<Profile, Error> {
    let mut best = profile.clone();
    for other in profile.on_other_machines() {
        let mut lead = 0;
        for record in records {
            let Some(file) = files(&record.name)? else { continue };
            let Ok(image) = Image::parse(&file) else { continue };
            let sections = sections(record);
            let module = guest_module(record, &sections, is_live(record));
            let fits = |profile| i32::from(lies_as(profile, &image, &module));
            lead += fits(&other) - fits(&best);
            if lead.abs() >= ENOUGH {
                break;
            }
        }
        if lead > 0 {
            best = other;
        }
    }
    Ok(best)
}
