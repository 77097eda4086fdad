//! What is done in a guest when its modules are loaded: small scripts, by name. What a kernel or its configuration does
//! not have is passed over: the outcome is a state like others.

use anyhow::{Context as _, Result};

/// Name and script of each.
const ACTIONS: &[(&str, &str)] = &[
    ("bpf", include_str!("../../../conformance/actions/bpf.sh")),
    ("dyndbg", include_str!("../../../conformance/actions/dyndbg.sh")),
    ("events", include_str!("../../../conformance/actions/events.sh")),
    ("fprobe", include_str!("../../../conformance/actions/fprobe.sh")),
    ("graph", include_str!("../../../conformance/actions/graph.sh")),
    ("hotplug", include_str!("../../../conformance/actions/hotplug.sh")),
    ("instance", include_str!("../../../conformance/actions/instance.sh")),
    ("kprobes", include_str!("../../../conformance/actions/kprobes.sh")),
    ("offline", include_str!("../../../conformance/actions/offline.sh")),
    ("reload", include_str!("../../../conformance/actions/reload.sh")),
    ("tracer", include_str!("../../../conformance/actions/tracer.sh")),
    ("use", include_str!("../../../conformance/actions/use.sh")),
];

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(name, _)| *name)
}

/// The commands of all these, one after the other.
pub(super) fn script(names: &[String]) -> Result<String> {
    let mut script = String::new();
    for name in names {
        let action = ACTIONS.iter().find(|(own, _)| own == name);
        let (_, text) = action.with_context(|| format!("there is no action {name:?}"))?;
        script += &format!("echo '== {name}'\n{text}\ncd /\n");
    }
    Ok(script)
}
