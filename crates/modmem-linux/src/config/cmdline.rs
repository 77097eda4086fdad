//! Options of modules on the kernel's command line: `MODULE.PARAM=VALUE`, and `modprobe.blacklist=MODULE,...`.

/// What is being read (libkmod-config.c:kmod_config_parse_kcmdline).
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ignored,
    Module,
    Parameter,
    Value,
}

/// The modules that a command line speaks to, and what it says: a parameter, with its value if it has one.
///
/// A boot loader may put quotes around the whole of what was `mod.param="a b"`; then they are moved to the value.
pub(super) fn options(text: &str) -> Vec<(String, String)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut state, mut in_quotes, mut quoted_whole) = (State::Module, false, false);
    let (mut module, mut parameter, mut value) = (0, 0, 0);
    let part = |from: usize, to: usize| String::from_utf8_lossy(&bytes[from..to]).into_owned();
    for at in 0..=bytes.len() {
        match bytes.get(at) {
            Some(b'"') => {
                in_quotes = !in_quotes;
                if in_quotes && state == State::Module && at == module {
                    quoted_whole = true;
                    module = at + 1;
                } else if state != State::Value {
                    state = State::Ignored;
                }
            }
            None | Some(0 | b' ' | b'\n' | b'\t' | 0x0b | 0x0c | b'\r') => match state {
                State::Value if in_quotes => {}
                _ if in_quotes => state = State::Ignored,
                State::Value | State::Parameter => {
                    let name = part(module, parameter - 1);
                    let option = match quoted_whole && state == State::Value {
                        true => format!("{}\"{}", part(parameter, value), part(value, at)),
                        false => part(parameter, at),
                    };
                    found.push((name, option));
                    (state, module, quoted_whole) = (State::Module, at + 1, false);
                }
                _ => (state, module, quoted_whole) = (State::Module, at + 1, false),
            },
            Some(b'.') if state == State::Module => (state, parameter) = (State::Parameter, at + 1),
            Some(b'.') if state == State::Parameter => state = State::Ignored,
            Some(b'=') if state == State::Parameter => (state, value) = (State::Value, at + 1),
            Some(b'=') if state == State::Module => state = State::Ignored,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        options(text).into_iter().map(|(module, option)| format!("{module} {option}")).collect()
    }

    #[test]
    fn parameters_of_modules_are_told_from_those_of_the_kernel() {
        let text = "BOOT_IMAGE=/boot/vmlinuz-6.12 root=/dev/sda1 ro loop.max_loop=8 quiet usbcore.quirks \
                    a.b.c=1 modprobe.blacklist=x,y-z\n";
        assert_eq!(found(text), ["loop max_loop=8", "usbcore quirks", "modprobe blacklist=x,y-z"]);
    }

    #[test]
    fn quotes_may_stand_around_all_or_around_the_value() {
        assert_eq!(found("p.dyndbg=\"file a b.c +mpf\" q.x=1"), ["p dyndbg=\"file a b.c +mpf\"", "q x=1"]);
        assert_eq!(found("\"p.dyndbg=file a b.c +mpf\" q.x=1"), ["p dyndbg=\"file a b.c +mpf\"", "q x=1"]);
        assert!(found("\"p.x y\"").is_empty());
        assert!(found("p.x=\"never ends").is_empty());
        assert!(found("").is_empty());
    }
}
