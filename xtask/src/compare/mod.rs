//! What modmem computes against what a kernel reported, for recordings and for kernels that were just booted.

mod layout;
mod remembered;
mod temporary;
mod views;

pub use layout::{Layouts, layouts};
pub use views::{Held, Views, views};

/// Differences are worth more than the fact that there are some; nobody reads hundreds.
const MOST: usize = 20;

/// What differs, a line each.
#[derive(Debug, Default)]
pub struct Differences {
    lines: Vec<String>,
    more: usize,
}

impl Differences {
    /// Notes one.
    pub fn push(&mut self, line: String) {
        match self.lines.len() < MOST {
            true => self.lines.push(line),
            false => self.more += 1,
        }
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines, and one that counts those that were too many.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        self.lines.iter().cloned().chain(more)
    }

    /// Notes where two lists of lines part; only the first place, since what follows is likely to be moved.
    fn push_lines(&mut self, what: &str, ours: &[&str], theirs: &[&str]) {
        let number = ours.iter().zip(theirs).take_while(|(ours, theirs)| ours == theirs).count();
        if number < ours.len().max(theirs.len()) {
            let line =
                |lines: &[&str]| lines.get(number).map_or("nothing".into(), |line| format!("{line:?}"));
            let (ours, theirs) = (line(ours), line(theirs));
            self.push(format!("{what}, line {}: modmem has {ours}, the kernel {theirs}", number + 1));
        }
    }
}

/// Address, letter, name and module of a line of /proc/kallsyms about a module's symbol.
fn symbol_of(line: &str) -> Option<(u64, &str, &str, &str)> {
    let (symbol, module) = line.split_once('\t')?;
    let [address, letter, name] = symbol.split(' ').collect::<Vec<_>>()[..] else { return None };
    let module = module.strip_prefix('[')?.strip_suffix(']')?;
    Some((u64::from_str_radix(address, 16).ok()?, letter, name, module))
}
