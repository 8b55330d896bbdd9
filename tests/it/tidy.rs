//! The house rules that a machine can check: who may name whom, what pure modules may not touch, that every
//! file says what it is, and that no file grows without bound. DESIGN decisions behind it: `ARCHITECTURE.md`.

use std::fs;
use std::path::{Path, PathBuf};

/// Bottom-up: a module may name only what stands in its row. `crate::<name>` anywhere in a file of the
/// module is a mention.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("observe", &["types"]),
    ("config", &["types"]),
    ("record", &["types"]),
    ("protocol", &["types"]),
    ("storage", &["types", "observe", "config", "record"]),
    ("security", &["types"]),
    ("metadata", &["types", "config", "record", "protocol", "security"]),
    ("net", &["types", "observe", "config", "protocol", "security"]),
    ("replication", &["types", "observe", "config", "record", "protocol", "storage", "metadata", "net"]),
    ("coordinator", &["types", "observe", "config", "record", "protocol", "metadata"]),
    (
        "controller",
        &["types", "observe", "config", "record", "protocol", "storage", "security", "metadata", "net"],
    ),
    ("client", &["types", "observe", "config", "record", "protocol", "security", "net"]),
    (
        "server",
        &[
            "types",
            "observe",
            "config",
            "record",
            "protocol",
            "storage",
            "security",
            "metadata",
            "net",
            "replication",
            "coordinator",
            "controller",
        ],
    ),
    (
        "cli",
        &[
            "types",
            "observe",
            "config",
            "record",
            "protocol",
            "storage",
            "security",
            "metadata",
            "net",
            "replication",
            "coordinator",
            "controller",
            "client",
            "server",
        ],
    ),
];

/// The only files of `cli` that may name `server`: every other command goes through `client` or reads.
const SERVER_DOORS: &[&str] = &["cli/serve.rs", "cli/embedded.rs"];

/// Modules that decide and do not act, and the files among them that may act.
const PURE: &[(&str, &[&str])] = &[
    ("types", &["types/clock.rs"]),
    ("config", &[]),
    ("record", &[]),
    ("protocol", &[]),
    ("security", &[]),
    ("metadata", &[]),
    ("coordinator", &[]),
    ("replication", &["replication/manager.rs", "replication/fetcher.rs", "replication/fetchers.rs"]),
    (
        "controller",
        &[
            "controller/mod.rs",
            "controller/driver.rs",
            "controller/forward.rs",
            "controller/member/mod.rs",
            "controller/member/peers.rs",
            "controller/member/start.rs",
        ],
    ),
];

/// What a pure file may not say outside its tests.
const IMPURE_WORDS: &[&str] = &[
    "tokio",
    "async fn",
    ".await",
    "std::fs",
    "std::net",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "getrandom",
];

/// Words that a file outside `types/clock.rs` may not say: time is read through `Clock`.
const CLOCK_WORDS: &[&str] = &["tokio::time", "SystemTime::now", "thread::sleep"];

/// Files that are one table; everything else stays below [`LINES_MAX`].
const TABLES: &[&str] = &["config/table.rs", "protocol/errors.rs", "protocol/apis.rs", "observe.rs"];

const LINES_MAX: usize = 700;

struct Source {
    /// Path below `src/`, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// The lines before the test module, comments left out, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (index + 1, line))
    }
}

fn sources() -> Vec<Source> {
    sources_below("src")
}

fn sources_below(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let relative = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                found.push(Source { path: relative, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn is_root(path: &str) -> bool {
    path == "lib.rs" || path == "main.rs"
}

/// The module names that follow `crate::` in a line.
fn mentions(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").filter(|(at, _)| !line[..*at].ends_with('$')).map(|(at, word)| {
        let rest = &line[at + word.len()..];
        &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())]
    })
}

fn report(findings: &[String]) {
    assert!(findings.is_empty(), "{} finding(s):\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn modules_name_only_what_their_row_allows() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|s| !is_root(&s.path)) {
        let module = source.module();
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
            findings.push(format!("src/{}: module {module} has no row in MAY_NAME", source.path));
            continue;
        };
        for (number, line) in source.code() {
            for named in mentions(line) {
                if named.is_empty() {
                    findings
                        .push(format!("src/{}:{number}: write one `crate::module` per `use`", source.path));
                } else if named != module && !allowed.contains(&named) {
                    findings.push(format!("src/{}:{number}: {module} may not name {named}", source.path));
                } else if module == "cli" && named == "server" && !SERVER_DOORS.contains(&&*source.path) {
                    findings
                        .push(format!("src/{}:{number}: only {SERVER_DOORS:?} may name server", source.path));
                }
            }
        }
    }
    report(&findings);
}

#[test]
fn pure_modules_touch_no_clock_file_socket_or_thread() {
    let mut findings = Vec::new();
    for source in sources() {
        let Some((_, acting)) = PURE.iter().find(|(name, _)| *name == source.module()) else { continue };
        if acting.contains(&&*source.path) {
            continue;
        }
        for (number, line) in source.code() {
            for word in IMPURE_WORDS.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("src/{}:{number}: a pure module may not say `{word}`", source.path));
            }
        }
    }
    report(&findings);
}

#[test]
fn time_is_read_through_the_clock() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|s| s.path != "types/clock.rs") {
        for (number, line) in source.code() {
            for word in CLOCK_WORDS.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("src/{}:{number}: `{word}` outside types/clock.rs", source.path));
            }
        }
    }
    report(&findings);
}

#[test]
fn system_calls_and_unsafe_stay_in_storage_disk() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|s| s.path != "storage/disk.rs") {
        for (number, line) in source.code() {
            let touches_files = source.module() == "storage" && line.contains("std::fs");
            if line.contains("unsafe ") || touches_files {
                findings.push(format!(
                    "src/{}:{number}: belongs in storage/disk.rs: {}",
                    source.path,
                    line.trim()
                ));
            }
        }
    }
    report(&findings);
}

#[test]
fn anyhow_stays_in_the_command_line() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|s| s.module() != "cli" && s.path != "main.rs") {
        for (number, _) in source.code().filter(|(_, line)| line.contains("anyhow")) {
            findings.push(format!("src/{}:{number}: anyhow outside cli", source.path));
        }
    }
    report(&findings);
}

#[test]
fn every_file_says_what_it_is_and_stays_readable() {
    let mut findings = Vec::new();
    for folder in ["src", "tests/it", "benches", "build"] {
        for source in sources_below(folder) {
            if !source.text.starts_with("//!") {
                findings.push(format!("{folder}/{}: begins with no `//!` doc", source.path));
            }
            let lines = source.text.lines().count();
            let is_table = folder == "src" && TABLES.contains(&&*source.path);
            if lines > LINES_MAX && !is_table {
                findings.push(format!("{folder}/{}: {lines} lines; {LINES_MAX} is the most", source.path));
            }
        }
    }
    report(&findings);
}
