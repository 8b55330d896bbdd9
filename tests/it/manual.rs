//! The manual pages in `man/` and the completions in `completions/` are what the clap tree makes of itself.
//! `UPDATE=1 cargo test --test it manual` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use klamm::cli;

/// Files by name, as they should stand in one folder.
type Files = BTreeMap<String, Vec<u8>>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(folder: &Path) -> Files {
    let Ok(entries) = fs::read_dir(folder) else { return Files::new() };
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Compares a folder with what it should hold, or makes it so.
fn settle(folder: &str, expected: &Files) {
    let path = root().join(folder);
    if std::env::var_os("UPDATE").is_some() {
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        for (name, content) in expected {
            fs::write(path.join(name), content).unwrap();
        }
        return;
    }
    let found = read(&path);
    let mut stale: Vec<&String> =
        expected.iter().filter(|(k, v)| found.get(*k) != Some(v)).map(|(k, _)| k).collect();
    stale.extend(found.keys().filter(|name| !expected.contains_key(*name)));
    assert!(stale.is_empty(), "{folder}/ is stale ({stale:?}): run `UPDATE=1 cargo test --test it manual`");
}

#[test]
fn manual_pages_are_fresh() {
    let folder = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(cli::command(), folder.path()).unwrap();
    settle("man", &read(folder.path()));
}

#[test]
fn completions_are_fresh() {
    let mut expected = Files::new();
    for (shell, name) in [(Shell::Bash, "klamm.bash"), (Shell::Zsh, "_klamm"), (Shell::Fish, "klamm.fish")] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut cli::command(), "klamm", &mut text);
        expected.insert(name.to_owned(), text);
    }
    settle("completions", &expected);
}

#[test]
fn every_help_ends_with_examples() {
    fn check(command: &Command, path: &str, missing: &mut Vec<String>) {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !after.contains("Examples:\n  klamm ") {
            missing.push(path.to_owned());
        }
        for below in command.get_subcommands() {
            check(below, &format!("{path} {}", below.get_name()), missing);
        }
    }
    let mut missing = Vec::new();
    check(&cli::command(), "klamm", &mut missing);
    assert!(missing.is_empty(), "no \"Examples:\" at the end of the help of {missing:?}");
}

#[test]
fn the_tree_is_sound() {
    cli::command().debug_assert();
}
