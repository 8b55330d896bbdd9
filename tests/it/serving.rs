//! A `klamm serve` of the tests' own, and `klamm` commands against it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A command that knows nothing of the shell's settings.
pub fn klamm() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klamm"));
    command.env_remove("KLAMM_BOOTSTRAP").env_remove("KLAMM_DIR").env("NO_COLOR", "1");
    command
}

/// A broker process on a directory of its own; killed when it is dropped.
pub struct Serving {
    child: Child,
    dir: TempDir,
    address: String,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Data, where all went well.
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// One JSON value a line, where all went well.
    #[track_caller]
    pub fn json(self) -> Vec<Value> {
        self.well().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The complaint of a command that failed.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.err
    }
}

pub fn run(command: &mut Command) -> Said {
    let ended = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) }
}

impl Serving {
    /// A broker that is ready.
    pub fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = klamm()
            .args(["serve", "--listen", "127.0.0.1:0", "-d"])
            .arg(dir.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let listener = ready.split_whitespace().find_map(|word| word.strip_prefix("listener="));
        let address = listener.unwrap_or_else(|| panic!("no ready line but {ready:?}")).to_owned();
        Self { child, dir, address }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command against the broker.
    pub fn ask(&self, arguments: &[&str]) -> Said {
        run(klamm().args(arguments).args(["-b", &self.address]))
    }

    /// Runs a command on the directory, beside the broker.
    pub fn read(&self, arguments: &[&str]) -> Said {
        run(klamm().args(arguments).arg("-d").arg(self.dir()))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
