//! The `klamm` binary: hands its arguments to the library and its verdict to the shell.

use std::process::ExitCode;

fn main() -> ExitCode {
    klamm::cli::run(std::env::args_os())
}
