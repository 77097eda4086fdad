//! A snapshot as one file: `.mms`, a tar archive of the members, compressed with zstd.
//!
//! Its first member says what it is and in which version, its last one that nothing was cut off.

use std::collections::HashSet;
use std::io::{self, BufReader, BufWriter, Read, Write};

use super::{
    Snapshot, areas, kprobes,
    lines::{broken, text},
    members::{MEMORY, Members, NOTES, SYMBOLS, TEXT_MEMBERS, member},
    modules, notes, ranges,
};
use crate::Error;

/// The first member, whose text begins with [`FORMAT`].
const FIRST: &str = "modmem-snapshot";
/// The last member.
const LAST: &str = "end";
/// What the first line of the first member says. Other versions are refused.
const FORMAT: &str = "format 1";
/// Bytes of the first member.
const FIRST_SIZE: u64 = 4096;
/// Bytes of a whole archive, unpacked.
const LIMIT: u64 = 4 << 30;
/// A guest under emulation compresses slowly: little is gained behind the first levels.
const LEVEL: i32 = 2;
/// Bytes read and written at once.
const BUFFER: usize = 1 << 16;

/// Whether a file that starts like this is a tar archive whose first member is that of a snapshot.
pub(crate) fn is_tar(start: &[u8]) -> bool {
    start.starts_with(FIRST.as_bytes()) && start.get(257..262) == Some(b"ustar")
}

pub(crate) fn read_compressed(shown: &str, file: impl Read) -> Result<Snapshot, Error> {
    let decoder = zstd::stream::read::Decoder::new(file).map_err(|error| broken(shown, error))?;
    read_tar(shown, decoder)
}

pub(crate) fn read_tar(shown: &str, tar: impl Read) -> Result<Snapshot, Error> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER, tar).take(LIMIT));
    let mut members = Members::default();
    let mut seen: HashSet<String> = HashSet::new();
    let mut last = String::new();
    // Raw: extensions of the format may be of any size, and members' names need none.
    for entry in archive.entries().map_err(|error| broken(shown, error))?.raw(true) {
        let mut entry = entry.map_err(|error| broken(shown, error))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let shown_member = member(shown, &name);
        if last == LAST {
            return Err(Error::malformed(
                shown_member,
                format!("behind \"{LAST}\", where nothing may follow"),
            ));
        }
        if !entry.header().entry_type().is_file() {
            return Err(Error::malformed(shown_member, "neither file nor member of a snapshot"));
        }
        if seen.contains(&name) {
            return Err(Error::malformed(shown_member, "there twice"));
        }
        let size = entry.size();
        let mut input = Counted { from: &mut entry, read: 0 };
        if seen.is_empty() {
            check_format(shown, &name, &mut input)?;
        } else if name != LAST {
            members.read(&name, &shown_member, BufReader::with_capacity(BUFFER, &mut input))?;
        }
        // What no version of this program knows is skipped; of the rest, nothing is left over.
        io::copy(&mut input, &mut io::sink()).map_err(|error| broken(&shown_member, error))?;
        if input.read != size {
            return Err(Error::malformed(shown_member, "cut off"));
        }
        if seen.len() > MOST_MEMBERS {
            return Err(Error::malformed(shown, format!("more than {MOST_MEMBERS} members")));
        }
        seen.insert(name.clone());
        last = name;
    }
    if last != LAST {
        return Err(Error::malformed(shown, format!("cut off: the member \"{LAST}\" is not there")));
    }
    // The checksum stands behind the archive.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| broken(shown, error))?;
    members.finish(shown)
}

/// More members than any machine has modules.
const MOST_MEMBERS: usize = 1 << 14;

fn check_format(shown: &str, name: &str, input: &mut impl Read) -> Result<(), Error> {
    let other = || Error::malformed(shown, format!("no snapshot: its first member is not \"{FIRST}\""));
    if name != FIRST {
        return Err(other());
    }
    let text = text(&member(shown, name), BufReader::new(input), FIRST_SIZE)?;
    match text.lines().next() {
        Some(FORMAT) => Ok(()),
        Some(format) if format.starts_with("format ") => {
            let made_by = text.lines().nth(1).unwrap_or("an unknown program");
            let problem =
                format!("{format:?}, written by {made_by:?}; this version of modmem reads {FORMAT:?} only");
            Err(Error::malformed(shown, problem))
        }
        _ => Err(other()),
    }
}

/// Counts what is read.
struct Counted<R> {
    from: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(to)?;
        self.read += read as u64;
        Ok(read)
    }
}

/// Writes a snapshot.
pub(crate) fn write(snapshot: &Snapshot, out: impl Write) -> io::Result<()> {
    let mut encoder = zstd::stream::write::Encoder::new(out, LEVEL)?;
    encoder.include_checksum(true)?;
    let mut tar = tar::Builder::new(BufWriter::with_capacity(BUFFER, encoder));
    let version = env!("CARGO_PKG_VERSION");
    append(&mut tar, FIRST, format!("{FORMAT}\nmodmem {version}\n").as_bytes())?;
    for name in TEXT_MEMBERS {
        if let Some(text) = text_member(snapshot, name) {
            append(&mut tar, name, text.as_bytes())?;
        }
    }
    for module in &snapshot.modules {
        // Whoever told the build id alone has no notes.
        let notes = match &module.build_id {
            Some(id) if module.notes.is_empty() => &notes::of_build_id(id),
            _ => &module.notes,
        };
        if !notes.is_empty() {
            append(&mut tar, &format!("{NOTES}{}", module.name), notes)?;
        }
    }
    if !snapshot.symbols.is_empty() {
        // The size comes before the text: lines are made twice, and never held.
        let size = snapshot.symbols.lines().map(|line| line.len() as u64).sum();
        let text = Lines { lines: snapshot.symbols.lines(), line: io::Cursor::default() };
        tar.append_data(&mut header(size)?, SYMBOLS, text)?;
    }
    if !snapshot.memory.is_empty() {
        let header = &mut header(snapshot.memory.stream_len())?;
        tar.append_data(header, MEMORY, snapshot.memory.stream())?;
    }
    append(&mut tar, LAST, b"")?;
    let encoder = tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    encoder.finish()?.flush()
}

fn text_member(snapshot: &Snapshot, name: &str) -> Option<String> {
    let line = |text: &str| (!text.is_empty()).then(|| format!("{text}\n"));
    let list = |text: String| (!text.is_empty()).then_some(text);
    match name {
        "kernel" => line(&snapshot.release),
        "machine" => line(&snapshot.machine),
        "version" => snapshot.version.as_deref().and_then(line),
        "cmdline" => snapshot.command_line.as_ref().map(|text| format!("{text}\n")),
        "cpus" => snapshot.cpus.map(|cpus| format!("{cpus}\n")),
        "cpuinfo" => snapshot.cpuinfo.clone(),
        "config" => snapshot.config.clone(),
        "modules" => Some(modules::write(&snapshot.modules)),
        "sections" => list(modules::write_sections(&snapshot.modules)),
        "modinfo" => list(modules::write_sizes(&snapshot.modules)),
        "vmallocinfo" => list(areas::write(snapshot.areas.iter().chain(&snapshot.contradictory_areas))),
        "kprobes" => snapshot.kprobes.as_deref().map(kprobes::write),
        "scanned" => list(ranges::write(snapshot.memory.scanned())),
        "torn" => list(ranges::write(&snapshot.torn)),
        "missing" => list(snapshot.missing.iter().map(|line| format!("{line}\n")).collect()),
        _ => None,
    }
}

fn header(size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(size);
    Ok(header)
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(bytes.len() as u64)?, name, bytes)
}

/// Lines that are made when they are read.
struct Lines<I> {
    lines: I,
    line: io::Cursor<String>,
}

impl<I: Iterator<Item = String>> Read for Lines<I> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.line.read(to)?;
            if read > 0 || to.is_empty() {
                return Ok(read);
            }
            let Some(line) = self.lines.next() else { return Ok(0) };
            self.line = io::Cursor::new(line);
        }
    }
}
