//! Memory types by the names of sections, where no file tells more.

use modmem::MemoryKind;

/// Beginnings of names of sections that kernels and compilers write to.
const DATA: [&str; 22] = [
    ".data",
    ".bss",
    ".gnu.linkonce.this_module",
    ".exit.data",
    ".codetag",
    ".ctors",
    ".ref.data",
    "__bug_table",
    "__dyndbg",
    "__verbose",
    "__patchable_function_entries",
    "__bpf_raw_tp_map",
    "_ftrace_events",
    "_ftrace_eval_map",
    "_error_injection_whitelist",
    "_kprobe_blacklist",
    "alloc_tags",
    // Small data, and tables of addresses: powerpc, RISC-V.
    ".sdata",
    ".sbss",
    ".toc",
    ".got",
    ".mygot",
];
/// Sections that are sealed after init.
const RO_AFTER_INIT: [&str; 2] = [".data..ro_after_init", "__jump_table"];
/// Sections of code whose names do not say so.
const TEXT: [&str; 7] =
    [".altinstr_replacement", ".altinstr_aux", ".fixup", ".plt", ".init.plt", ".stubs", ".sfpr"];

/// Sections that kernels of different versions put into different memories.
const DIFFERENT: &str = ".static_call_sites";

/// The memory that sections of this name probably lie in: what is no code and is not known to be written to is
/// read-only, as nearly all other tables are. A file's [`Layout`](modmem::Layout) knows for certain.
/// `None` for what depends on the kernel.
pub fn kind_of_section(name: &str) -> Option<MemoryKind> {
    if name == DIFFERENT {
        return None;
    }
    let is_text = name.contains(".text") || TEXT.contains(&name);
    let starts = |list: &[&str]| list.iter().any(|start| name.starts_with(start));
    let is_init = name.starts_with(".init") || matches!(name, ".symtab" | ".strtab");
    Some(match (is_init, is_text) {
        (true, true) => MemoryKind::InitText,
        (true, false) if name.starts_with(".init.rodata") => MemoryKind::InitRoData,
        (true, false) => MemoryKind::InitData,
        (false, true) => MemoryKind::Text,
        (false, false) if RO_AFTER_INIT.contains(&name) => MemoryKind::RoAfterInit,
        (false, false) if starts(&DATA) || name == "__tracepoints" => MemoryKind::Data,
        (false, false) => MemoryKind::RoData,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_that_only_some_machines_have_are_of_the_type_that_their_kernels_give_them() {
        for (name, kind) in [
            (".plt", MemoryKind::Text),
            (".init.plt", MemoryKind::InitText),
            (".text.ftrace_trampoline", MemoryKind::Text),
            (".init.text.ftrace_trampoline", MemoryKind::InitText),
            (".stubs", MemoryKind::Text),
            (".sfpr", MemoryKind::Text),
            (".toc", MemoryKind::Data),
            (".got.plt", MemoryKind::Data),
            (".sdata", MemoryKind::Data),
            (".sbss", MemoryKind::Data),
            ("__ftr_fixup", MemoryKind::RoData),
        ] {
            assert_eq!(kind_of_section(name), Some(kind), "{name}");
        }
    }
}
