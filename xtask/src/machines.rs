//! Each machine alone: modmem built with one machine's feature, and with none.
//!
//! Who embeds a loader for one machine must not carry the others, and a module of one that was left out must be refused
//! with an error that says what is missing.

use anyhow::Result;

use crate::command;

/// The features that modmem has for machines.
const MACHINES: [&str; 4] = ["x86_64", "arm64", "s390x", "ppc32"];

/// Checks each build, warnings denied, and runs the tests of what it refuses.
///
/// # Errors
/// One of them does not build, warns, or refuses a module with another error.
pub fn run() -> Result<()> {
    for machine in MACHINES {
        for features in [machine.to_owned(), format!("{machine},finalize"), format!("{machine},verify")] {
            let mut clippy = command::cargo();
            clippy.args(["clippy", "--quiet", "--locked", "--package", "modmem", "--no-default-features"]);
            command::succeed(clippy.args(["--features", &features, "--", "-D", "warnings"]))?;
        }
        let mut test = command::cargo();
        test.args(["test", "--quiet", "--locked", "--package", "modmem", "--no-default-features"]);
        // It only asks for errors: optimising the library four times takes longer.
        test.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
        command::succeed(test.args(["--features", machine, "--test", "not_built"]))?;
        println!("machines: modmem with {machine} alone builds, and refuses the others by name");
    }
    Ok(())
}
