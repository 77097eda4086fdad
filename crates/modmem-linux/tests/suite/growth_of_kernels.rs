//! The same of what describes a kernel's modules: depmod's files, configuration, what modules say of themselves.

use std::fmt::Write as _;

use modmem_linux::Kernel;

use crate::growth::grows;
use crate::support::{module, options, sample};

/// Opens a kernel with a module `a`, and asks for the order of it and of what else `names` says.
fn ask(files: &[(&str, &[u8])], names: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (mut options, _) = options(folder.path());
    let a = module(&["depends="], &["a"], &[]);
    let mut all = vec![("kernel/a.ko", a)];
    all.extend(files.iter().map(|(name, contents)| (*name, contents.to_vec())));
    options.sample = sample(&all);
    let kernel = Kernel::open(&["sample"], &options).unwrap();
    // Whether there is such a module does not matter here.
    for name in ["a"].iter().chain(names) {
        let _ = (kernel.load_order(&[name]).is_ok(), kernel.find(name).is_ok());
    }
    let _ = kernel.remarks();
}

#[test]
fn depmod_s_files() {
    let in_file = |file: &'static str, names: &'static [&'static str]| {
        move |text: &str| {
            let dep = ("modules.dep", &b"kernel/a.ko:\n"[..]);
            match file {
                "modules.dep" => ask(&[(file, text.as_bytes())], names),
                _ => ask(&[dep, (file, text.as_bytes())], names),
            }
        }
    };
    let many = |number: usize, text: &mut String| writeln!(text, "kernel/m{number}.ko:").unwrap();
    grows("modules.dep: modules", 5_000, many, in_file("modules.dep", &["m1"]));
    let needs = |number: usize, text: &mut String| match number {
        0 => text.push_str("kernel/a.ko:"),
        _ => write!(text, " kernel/m{number}.ko").unwrap(),
    };
    grows("modules.dep: what one needs", 5_000, needs, in_file("modules.dep", &[]));
    let chain = |number: usize, text: &mut String| match number {
        0 => text.push_str("kernel/a.ko: kernel/m1.ko\n"),
        _ => writeln!(text, "kernel/m{number}.ko: kernel/m{}.ko", number + 1).unwrap(),
    };
    grows("modules.dep: one after the other", 5_000, chain, in_file("modules.dep", &[]));
    let aliases = |number: usize, text: &mut String| writeln!(text, "alias pci:v{number}* a").unwrap();
    grows("modules.alias: patterns", 10_000, aliases, in_file("modules.alias", &["pci:v77", "none"]));
    let matching = |number: usize, text: &mut String| writeln!(text, "alias x* m{number}").unwrap();
    grows("modules.alias: all match", 5_000, matching, in_file("modules.alias", &["xy"]));
    let symbols = |number: usize, text: &mut String| writeln!(text, "alias symbol:s{number} a").unwrap();
    grows("modules.symbols", 10_000, symbols, in_file("modules.symbols", &["symbol:s5"]));
    let softdeps = |number: usize, text: &mut String| writeln!(text, "softdep m{number} pre: a").unwrap();
    grows("modules.softdep: lines", 10_000, softdeps, in_file("modules.softdep", &[]));
    let before = |number: usize, text: &mut String| match number {
        0 => text.push_str("softdep a pre:"),
        _ => write!(text, " g{number}").unwrap(),
    };
    grows("modules.softdep: names", 5_000, before, in_file("modules.softdep", &[]));
    let order = |number: usize, text: &mut String| writeln!(text, "kernel/m{number}.ko").unwrap();
    grows("modules.order", 10_000, order, in_file("modules.order", &[]));
    grows("modules.builtin", 10_000, order, in_file("modules.builtin", &["m7"]));
    let fields = |number: usize, text: &mut String| write!(text, "m{number}.alias=b{number}\0").unwrap();
    grows("modules.builtin.modinfo", 10_000, fields, in_file("modules.builtin.modinfo", &["b7"]));
}

#[test]
fn configuration() {
    let with = |text: &str| ask(&[("/etc/modprobe.d/a.conf", text.as_bytes())], &["x5", "y"]);
    let aliases = |number: usize, text: &mut String| writeln!(text, "alias x{number} a").unwrap();
    grows("modprobe.d: aliases", 10_000, aliases, with);
    let chain = |number: usize, text: &mut String| writeln!(text, "alias y{number} y{}", number + 1).unwrap();
    grows("modprobe.d: aliases of aliases", 10_000, chain, with);
    let arguments = |number: usize, text: &mut String| writeln!(text, "options a p{number}=1").unwrap();
    grows("modprobe.d: options", 10_000, arguments, with);
    let black = |number: usize, text: &mut String| writeln!(text, "blacklist b{number}").unwrap();
    grows("modprobe.d: blacklist", 10_000, black, with);
    let softdeps = |number: usize, text: &mut String| writeln!(text, "softdep a{number} post: a").unwrap();
    grows("modprobe.d: softdeps", 10_000, softdeps, with);
    let long = |_: usize, text: &mut String| text.push_str("options a b \\\n");
    grows("modprobe.d: one long line", 10_000, long, with);
    let search = |number: usize, text: &mut String| writeln!(text, "override m{number} * extra").unwrap();
    grows("depmod.d", 10_000, search, |text| ask(&[("/etc/depmod.d/a.conf", text.as_bytes())], &[]));
}

#[test]
fn what_modules_say_of_themselves() {
    let of = |key: &'static str, separator: char| {
        move |text: &str| {
            let fields: Vec<String> = match separator {
                '\n' => text.lines().map(|line| format!("{key}={line}")).collect(),
                _ => vec![format!("{key}={}", text.replace('\n', &separator.to_string()))],
            };
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            ask(&[("kernel/b.ko", &module(&fields, &["b"], &[]))], &["b", "b5"]);
        }
    };
    let line = |number: usize, text: &mut String| writeln!(text, "b{number}").unwrap();
    grows("modinfo: aliases", 5_000, line, of("alias", '\n'));
    grows("modinfo: depends", 5_000, line, of("depends", ','));
    grows("modinfo: parameters", 5_000, line, of("parm", '\n'));
    grows("modinfo: namespaces", 5_000, line, of("import_ns", '\n'));
    grows(
        "modinfo: softdeps",
        5_000,
        |number, text| writeln!(text, "pre: b{number}").unwrap(),
        of("softdep", '\n'),
    );
    let names = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    grows("exports and imports", 5_000, line, |text| {
        let names = names(text);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let exporter = module(&["depends="], &names, &[]);
        let importer = module(&["license=GPL"], &[], &names);
        ask(&[("kernel/c.ko", &exporter), ("kernel/d.ko", &importer)], &["d", "symbol:b7"]);
    });
}
