//! `klamm verify --repair`: under the directory's lock, what recovery does, and what was done.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::cli::exit::{Exit, usage};
use crate::cli::output::Output;
use crate::cli::verify::pass::{Checked, Pass, Target};
use crate::cli::verify::report;
use crate::storage::Disk;
use crate::storage::checkpoint::{
    CLEAN_SHUTDOWN_FILE, LOCK_FILE, parse_clean_shutdown, render_clean_shutdown,
};
use crate::storage::disk::{DiskLock, LockError, read_small, replace_file};
use crate::storage::verify::{
    Done, Facts, Finding, RegularFiles, Remedy, State, mend_checkpoints, mend_folder, mend_own, state_of,
};
use crate::types::{Clock, SystemClock};

/// Once the metadata log can be read again, it says how more is mended.
const ROUNDS_MAX: usize = 2;

/// Mends what can be mended in `paths`, log directories or partitions' folders, and checks them again. Several
/// directories of a node are held against each other, and against the metadata log in one of them.
///
/// # Errors
/// A directory is in use, or the disk failed.
pub(super) fn run(
    disk: &Arc<dyn Disk>,
    paths: &[PathBuf],
    threads: usize,
    shown: report::Shown,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let disk: &Arc<dyn Disk> = &(RegularFiles::on(Arc::clone(disk)) as Arc<dyn Disk>);
    let mut pass = Pass::on(Arc::clone(disk), threads);
    let mut places: Vec<Place> = Vec::new();
    for path in paths {
        let target = Target::of(&**disk, path).with_context(|| path.display().to_string())?;
        let place = match &target {
            Target::File { .. } => {
                return Err(usage("'--repair' takes log directories and partitions' folders"));
            }
            other => other.directory().map(Path::to_owned).unwrap_or_default(),
        };
        let held = places.iter().any(|one| one.directory == place);
        places.push(Place::take(disk, target.path(), place, held)?);
        pass.add(path);
    }
    let mut found = pass.run(output);
    for _ in 0..ROUNDS_MAX {
        let is_mendable = |finding: &Finding| finding.remedy.mends();
        if !found.iter().any(|one| one.findings.iter().any(is_mendable)) {
            break;
        }
        for place in &places {
            let Some(one) = found.iter().find(|one| one.target == place.target) else { continue };
            let (disk, directory) = (Arc::clone(disk), place.directory.clone());
            let state = place.state;
            let mut repair = Repair { disk, directory, state, done: Vec::new(), mended: BTreeSet::new() };
            repair.run(&mut pass, one, output)?;
            report::done(&repair.done, shown, output)?;
        }
        found = pass.run(output);
    }
    report::conclude(&found, &pass, shown, output)
}

/// What is to be repaired, and its directory's lock.
struct Place {
    target: PathBuf,
    directory: PathBuf,
    state: State,
    _lock: Option<Box<dyn DiskLock>>,
}

impl Place {
    /// Takes the lock of `directory`, unless this repair has it already.
    fn take(disk: &Arc<dyn Disk>, target: &Path, directory: PathBuf, held: bool) -> anyhow::Result<Self> {
        let state = state_of(&**disk, &directory)?;
        let in_use =
            || format!("{} is in use by a broker: stop it before it is repaired", directory.display());
        if state == State::Running {
            bail!(in_use());
        }
        let lock = match state {
            // A copy of some folders is nobody's, and gets no lock file.
            State::Copy => None,
            _ if held => None,
            _ => match disk.lock(&directory.join(LOCK_FILE)) {
                Ok(lock) => Some(lock),
                Err(LockError::Held { .. }) => bail!(in_use()),
                Err(error) => return Err(error.into()),
            },
        };
        Ok(Self { target: target.to_owned(), directory, state, _lock: lock })
    }
}

struct Repair {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    state: State,
    done: Vec<Done>,
    /// Folders of logs that were recovered.
    mended: BTreeSet<PathBuf>,
}

impl Repair {
    fn run(&mut self, pass: &mut Pass, found: &Checked, output: &Output) -> anyhow::Result<()> {
        if !found.findings.iter().any(|finding| finding.remedy.mends()) {
            return Ok(());
        }
        let known = pass.known(&self.directory);
        let facts = match self.state {
            State::Copy => None,
            _ => Some(Facts::read(&*self.disk, &self.directory, known.as_deref())?),
        };
        let mark = self.directory.join(CLEAN_SHUTDOWN_FILE);
        let marked = read_small(&*self.disk, &mark)?;
        if marked.is_some() {
            // What ends this halfway is followed by a recovery.
            self.disk.remove_file(&mark)?;
            self.disk.sync_dir(&self.directory)?;
        }
        self.done.extend(mend_own(&*self.disk, &self.directory, &found.findings)?);
        self.mend_logs(found, facts.as_ref())?;
        if let Some(facts) = &facts {
            let again = pass.run(output);
            for one in again.iter().filter(|one| one.target == found.target) {
                self.mend_checkpoints(one, found, facts, pass)?;
            }
        }
        if let Some(bytes) = marked {
            self.mark(&mark, &bytes, found)?;
        }
        Ok(())
    }

    fn mend_logs(&mut self, one: &Checked, facts: Option<&Facts>) -> anyhow::Result<()> {
        for log in &one.outcomes {
            let of_log = |finding: &&Finding| finding.file.parent() == Some(&*log.folder);
            let findings: Vec<&Finding> = one.findings.iter().filter(of_log).collect();
            if !findings.iter().any(|finding| finding.remedy.mends()) {
                continue;
            }
            let now_ms = SystemClock::new().now_ms();
            let done = mend_folder(&self.disk, &log.folder, &findings, log, facts, now_ms)?;
            if !done.is_empty() {
                self.mended.insert(log.folder.clone());
            }
            self.done.extend(done);
        }
        Ok(())
    }

    fn mend_checkpoints(
        &mut self,
        again: &Checked,
        before: &Checked,
        facts: &Facts,
        pass: &Pass,
    ) -> anyhow::Result<()> {
        // Of one partition alone, nothing is known of what else a checkpoint has.
        if !again.is_whole {
            return Ok(());
        }
        let was_clean = self.state == State::Clean;
        let known = pass.known(&self.directory);
        let done = mend_checkpoints(
            &*self.disk,
            facts,
            was_clean,
            &before.findings,
            &again.outcomes,
            &self.mended,
            known.as_deref(),
        )?;
        self.done.extend(done);
        Ok(())
    }

    /// Puts the clean mark back: the directory is as its last stop should have left it.
    fn mark(&mut self, mark: &Path, bytes: &[u8], found: &Checked) -> anyhow::Result<()> {
        let remedies = found.findings.iter().filter(|finding| finding.file == mark);
        let due = remedies.clone().find_map(|finding| match finding.remedy {
            Remedy::WriteMark(epoch) => Some(epoch),
            _ => None,
        });
        let fresh = match due {
            Some(epoch) => render_clean_shutdown(epoch),
            None => bytes.to_vec(),
        };
        replace_file(&*self.disk, mark, &fresh)?;
        if let Some(epoch) = due {
            let what = format!("broker epoch {epoch} written, where {} stood", parse_clean_shutdown(bytes));
            self.done.push(Done { file: mark.to_owned(), what });
        }
        Ok(())
    }
}
