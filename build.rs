//! Makes the structs of Kafka's messages from the tables in `src/protocol/messages/*.txt`.
//!
//! `build/table.rs` reads the tables, `build/names.rs` turns Kafka's names into Rust's, `build/emit.rs` writes
//! `$OUT_DIR/messages.rs`. A row that cannot be understood stops the build with its file and line.
#![allow(clippy::print_stdout, reason = "cargo reads a build script's standard output")]

#[path = "build/emit.rs"]
mod emit;
#[path = "build/names.rs"]
mod names;
#[path = "build/table.rs"]
mod table;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

const TABLES: &str = "src/protocol/messages";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={TABLES}");
    println!("cargo::rerun-if-changed=build");
    let mut files: Vec<PathBuf> = fs::read_dir(TABLES)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    let mut messages = Vec::new();
    for file in files {
        messages.extend(read(&file)?);
    }
    let out = Path::new(&env::var("OUT_DIR")?).join("messages.rs");
    fs::write(out, emit::messages(&messages))?;
    Ok(())
}

fn read(file: &Path) -> Result<Vec<table::Message>, Box<dyn Error>> {
    let family = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let text = fs::read_to_string(file)?;
    table::read(&family, &text)
        .map_err(|error| format!("{}:{}: {}", file.display(), error.line, error.why).into())
}
