//! `klamm verify` on the directories of a node together: whose they are, and what is missing, doubled or about to be
//! erased among them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::serving::{Said, klamm, run};

/// `klamm serve`, which is killed with its owner.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(dirs: &[PathBuf]) -> Self {
        let mut command = klamm();
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        dirs.iter().for_each(|dir| _ = command.arg("-d").arg(dir));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let listener = ready.split_whitespace().find_map(|word| word.strip_prefix("listener="));
        let address = listener.unwrap_or_else(|| panic!("no ready line but {ready:?}")).to_owned();
        Self { child, address }
    }

    fn ask(&self, command: &mut Command) {
        run(command.args(["-b", &self.address])).well();
    }

    fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dirs_in(folder: &TempDir) -> [PathBuf; 2] {
    ["1", "1b"].map(|name| folder.path().join(name))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { _ = fs::copy(&path, &target).unwrap() }
    }
}

/// The two directories of a node that has a topic of four partitions, and was stopped in order.
fn stopped() -> (TempDir, [PathBuf; 2]) {
    static MADE: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&dirs_in(&folder));
        server.ask(klamm().args(["topics", "create", "plain", "-p", "4"]));
        for partition in ["0", "1", "2", "3"] {
            server.ask(klamm().args(["produce", "plain", "-p", partition, "Cargo.toml"]));
        }
        server.stop();
        folder
    });
    let folder = tempfile::tempdir().unwrap();
    let dirs = dirs_in(&folder);
    dirs_in(&MADE).iter().zip(&dirs).for_each(|(from, to)| copy(from, to));
    (folder, dirs)
}

fn verify(arguments: &[&str], dirs: &[PathBuf]) -> Said {
    run(klamm().arg("verify").args(arguments).args(dirs))
}

/// The directory that a partition is in.
fn home<'a>(dirs: &'a [PathBuf], partition: &str) -> &'a Path {
    dirs.iter().find(|dir| dir.join(partition).exists()).unwrap()
}

#[track_caller]
fn is_damage(dirs: &[PathBuf], what: &str) {
    let said = verify(&["-q"], dirs);
    assert!(said.code == Some(3) && said.out.contains(what), "{what}: {said:?}");
}

#[track_caller]
fn is_sound(dirs: &[PathBuf]) -> String {
    let said = verify(&[], dirs);
    assert!(said.code == Some(0), "{said:?}");
    said.out
}

/// Changes a value in a `meta.properties`.
fn change(dir: &Path, key: &str, value: &str) {
    let path = dir.join("meta.properties");
    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| match line.split_once('=') {
        Some((found, _)) if found == key => format!("{key}={value}\n"),
        _ => format!("{line}\n"),
    });
    fs::write(&path, lines.collect::<String>()).unwrap();
}

#[test]
fn nothing_is_found_in_the_directories_of_a_healthy_node_stopped_running_or_killed() {
    let (_folder, dirs) = stopped();
    assert!(!is_sound(&dirs).contains("note:"));
    let server = Server::start(&dirs);
    server.ask(klamm().args(["topics", "create", "later", "-p", "6"]));
    is_sound(&dirs);
    server.ask(klamm().args(["topics", "delete", "later"]));
    is_sound(&dirs);
    drop(server);
    is_sound(&dirs);
    is_sound(&dirs[..1]);
    is_sound(&dirs[1..]);
}

#[test]
fn properties_that_do_not_agree_are_damage() {
    for (key, value) in
        [("cluster.id", "another"), ("node.id", "7"), ("directory.id", "AAAAAAAAAAAAAAAAAAABbA")]
    {
        let (_folder, dirs) = stopped();
        change(&dirs[1], key, value);
        is_damage(&dirs, &format!("{key} is {value}"));
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let (_folder, dirs) = stopped();
        fs::copy(dirs[from].join("meta.properties"), dirs[to].join("meta.properties")).unwrap();
        is_damage(&dirs, "and so is that of");
        let said = verify(&["--repair"], &dirs);
        assert!(said.code == Some(0) && said.out.contains("mended"), "{said:?}");
        Server::start(&dirs).stop();
    }
}

#[test]
fn a_live_partition_that_is_about_to_be_erased_is_damage() {
    let (_folder, dirs) = stopped();
    let home = home(&dirs, "plain-0");
    let renamed = home.join("plain-0.0123456789abcdef0123456789abcdef-delete");
    fs::rename(home.join("plain-0"), &renamed).unwrap();
    is_damage(&dirs, "-delete: the metadata log has this partition here");
    fs::remove_file(home.join(".kafka_cleanshutdown")).unwrap();
    is_damage(&dirs, "-delete: the metadata log has this partition here");
}

#[test]
fn a_partition_whose_folder_is_gone_is_damage_before_and_after_a_repair() {
    let (_folder, dirs) = stopped();
    let home = home(&dirs, "plain-1");
    fs::remove_dir_all(home.join("plain-1")).unwrap();
    // Something to mend beside it.
    fs::write(home.join("replication-offset-checkpoint"), "").unwrap();
    let what = "plain-1: the metadata log has the partition here, and its folder is in none";
    is_damage(&dirs, what);
    let said = verify(&["--repair"], &dirs);
    assert!(said.code == Some(3) && said.out.contains("no other broker has its records"), "{said:?}");
    is_damage(&dirs, what);
    fs::remove_file(home.join(".kafka_cleanshutdown")).unwrap();
    is_damage(&dirs, what);
    // Where it should be was not given.
    let other: Vec<PathBuf> = dirs.iter().filter(|dir| *dir != home).cloned().collect();
    is_sound(&other);
}

#[test]
fn a_partition_in_two_directories_is_damage_and_both_are_named() {
    let (_folder, dirs) = stopped();
    let home = home(&dirs, "plain-2");
    let other = dirs.iter().find(|dir| *dir != home).unwrap();
    copy(&home.join("plain-2"), &other.join("plain-2"));
    for dir in [home, other] {
        is_damage(&dirs, &format!("the partition is in {} too", dir.join("plain-2").display()));
    }
}

#[test]
fn directories_without_their_metadata_log_are_said_to_be_unchecked() {
    let (_folder, dirs) = stopped();
    fs::remove_dir_all(dirs[0].join("__cluster_metadata-0")).unwrap();
    let said = verify(&["-q"], &dirs);
    assert!(said.err.contains("no metadata log is in the given directories"), "{said:?}");
}

#[test]
fn a_directory_that_its_broker_did_not_have_last_time_is_no_damage() {
    let (_folder, dirs) = stopped();
    Server::start(&dirs[..1]).stop();
    assert!(is_sound(&dirs).contains("that directory was not among those it had"));
}

#[test]
fn what_is_no_file_is_named_and_holds_nobody_up() {
    for (name, what) in [
        ("plain-0/00000000000000000000.txnindex", "a folder, where a file belongs"),
        ("plain-0/00000000000000000000.timeindex", "not a regular file"),
        ("plain-0/00000000000000000000.log", "not a regular file"),
        ("cleaner-offset-checkpoint", "not a regular file"),
        ("meta.properties", "a folder, where a file belongs"),
    ] {
        let (_folder, dirs) = stopped();
        let path = home(&dirs, "plain-0").join(name);
        let _ = fs::remove_file(&path);
        if what.starts_with("a folder") {
            fs::create_dir(&path).unwrap();
        } else {
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        is_damage(&dirs, &format!("{name}: {what}"));
        let said = verify(&["--repair"], &dirs);
        assert!(said.out.contains(&format!("mended: {}: moved to", path.display())), "{name}: {said:?}");
        assert!(
            !path.is_dir()
                && path
                    .with_file_name(format!("{}.kept", path.file_name().unwrap().to_str().unwrap()))
                    .exists()
        );
    }
}

#[test]
fn a_log_that_is_gone_is_missed_whatever_is_left_of_its_segment() {
    for is_clean in [true, false] {
        let (_folder, dirs) = stopped();
        let folder = home(&dirs, "plain-3").join("plain-3");
        let log = folder.join("00000000000000000000.log");
        fs::remove_file(&log).unwrap();
        if !is_clean {
            fs::remove_file(folder.with_file_name(".kafka_cleanshutdown")).unwrap();
        }
        is_damage(&dirs, "00000000000000000000.log: offset 0: it is missing, and its indexes are here");
        let said = verify(&["--repair"], &dirs);
        assert!(said.out.contains("00000000000000000000.index.kept"), "{said:?}");
    }
}

#[test]
fn a_partition_behind_a_link_is_looked_into() {
    let (folder, dirs) = stopped();
    let place = home(&dirs, "plain-0").join("plain-0");
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&place, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &place).unwrap();
    is_sound(&dirs);
    let log = elsewhere.join("00000000000000000000.log");
    let mut bytes = fs::read(&log).unwrap();
    bytes[70] ^= 1;
    fs::write(&log, bytes).unwrap();
    is_damage(&dirs, "plain-0/00000000000000000000.log: position 0");
}

#[test]
fn a_folder_with_nothing_of_kafkas_is_no_sound_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("dbus-1/session.d")).unwrap();
    fs::write(folder.path().join("dbus-1/hosts"), "x").unwrap();
    let said = verify(&[], &[folder.path().to_owned()]);
    assert!(said.code == Some(1) && said.err.contains("nothing of Kafka's is here"), "{said:?}");
}
