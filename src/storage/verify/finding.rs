//! What a check has to say: one fact, where it is, and what becomes of it.

use std::fmt;
use std::path::PathBuf;

use crate::storage::checkpoint::MetaProperties;
use crate::types::{LeaderEpoch, Offset, Uuid};

/// Findings of one log that are kept one by one; a log that is broken all over costs no more memory than that.
pub const FINDINGS_MAX: usize = 1_000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// What a stop without order or a running broker leaves, and the next start mends in silence.
    Note,
    /// What no start mends, or does not mend in silence; in a directory that was marked clean, anything.
    Damage,
}

impl Severity {
    /// `note` or `damage`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Damage => "damage",
        }
    }
}

/// What a start's recovery or `--repair` makes of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// Nothing can.
    Nothing,
    /// Recovery would cut off sound batches here: that is for a person to decide.
    LeftAlone,
    /// Something else in the folder is for a person to decide, and the folder is left alone as a whole.
    LeftWithFolder,
    /// There is nothing to do: it goes by itself.
    Passes,
    /// The log ends here: what follows is no batch.
    Cut,
    /// Sound batches follow the bad bytes, which recovery would cut off too. The bytes up to `end` go; the
    /// offsets that they held, `first` to `last`, get an empty batch.
    TakeOut {
        /// Where the next sound batch begins, or the file ends.
        end: u64,
        /// The first offset that is lost.
        first: Offset,
        /// The last one; before `first` where none is.
        last: Offset,
    },
    /// Both neighbours say what the base offset was.
    SetBaseOffset(Offset),
    /// Both neighbours and the checkpoint say what the epoch was.
    SetLeaderEpoch(LeaderEpoch),
    /// The index follows from the log.
    MakeIndex,
    /// Leader epochs follow from the batches.
    MakeEpochs,
    /// Producers are read from the log.
    DropSnapshot,
    /// The checkpoint follows from the logs.
    WriteCheckpoint,
    /// The cluster's metadata says what the id is.
    WriteTopicId(Uuid),
    /// The directory says what its mark should say.
    WriteMark(i64),
    /// The file is put aside: nobody needs it, for the reason given.
    PutAside(&'static str),
    /// What is left of the file and the metadata log say whose directory it is.
    WriteProperties(Box<MetaProperties>),
    /// Nothing here: this is what a person can do.
    Person(&'static str),
    /// Decisions of the metadata log that no snapshot holds.
    LostDecisions {
        /// The first offset that is lost.
        first: Offset,
        /// The last one.
        last: Offset,
    },
}

impl Remedy {
    /// Whether `--repair` mends it.
    #[must_use]
    pub fn mends(&self) -> bool {
        let is_left = matches!(self, Self::Nothing | Self::LeftAlone | Self::LeftWithFolder | Self::Passes);
        !is_left && !matches!(self, Self::Person(_) | Self::LostDecisions { .. })
    }

    /// Whether its folder is left alone as a whole: recovery would cut off what a person has to decide on.
    #[must_use]
    pub(super) fn leaves_folder(&self) -> bool {
        matches!(self, Self::LeftAlone | Self::LostDecisions { .. })
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing here mends it"),
            Self::LeftAlone => f.write_str("recovery would cut the log here; --repair leaves it alone"),
            Self::LeftWithFolder => f.write_str(
                "--repair leaves this folder as it is: recovery would lose more of it than is damaged; a backup or another \
                 replica has the rest",
            ),
            Self::Passes => f.write_str("the next start takes care of it"),
            Self::Cut => f.write_str("recovery cuts the log here"),
            Self::TakeOut { end, first, last } if last < first => {
                write!(f, "recovery would cut the log here; --repair takes out the bytes up to {end}")
            }
            Self::TakeOut { end, first, last } => write!(
                f,
                "recovery would cut the log here; --repair takes out the bytes up to {end}, \
                 losing offsets {first} to {last}"
            ),
            Self::SetBaseOffset(offset) => write!(f, "--repair makes it {offset}"),
            Self::SetLeaderEpoch(epoch) => write!(f, "--repair makes it {epoch}"),
            Self::MakeIndex => f.write_str("recovery and --repair make it anew from the log"),
            Self::MakeEpochs => f.write_str("--repair reads the epochs from the batches"),
            Self::DropSnapshot => f.write_str("recovery and --repair read the producers from the log"),
            Self::WriteCheckpoint => f.write_str("--repair writes it anew"),
            Self::WriteTopicId(id) => write!(f, "--repair writes {id}, as the metadata log says"),
            Self::WriteMark(epoch) => write!(f, "--repair writes broker epoch {epoch}"),
            Self::PutAside(why) => write!(f, "--repair puts it aside: {why}"),
            Self::WriteProperties(properties) => {
                let text = String::from_utf8_lossy(&properties.render()).trim_end().replace('\n', " ");
                write!(f, "--repair writes {text}")
            }
            Self::Person(advice) => write!(f, "no repair mends it: {advice}"),
            Self::LostDecisions { first, last } => write!(
                f,
                "no repair mends it: what the cluster decided at offsets {first} to {last} is lost, no snapshot holds \
                 it, and recovery would cut off all that came later too; put this folder of a backup or of another \
                 controller in its place"
            ),
        }
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// In which file or folder.
    pub file: PathBuf,
    /// Where in the file.
    pub position: Option<u64>,
    /// At which offset of the log.
    pub offset: Option<Offset>,
    /// What was found.
    pub what: String,
    /// What becomes of it.
    pub remedy: Remedy,
}

impl Finding {
    /// Damage in `file`, of which nothing more is known.
    #[must_use]
    pub fn damage(file: impl Into<PathBuf>, what: impl Into<String>, remedy: Remedy) -> Self {
        let (file, what) = (file.into(), what.into());
        Self { severity: Severity::Damage, file, position: None, offset: None, what, remedy }
    }

    /// No file, where one belongs.
    pub(super) fn no_file(path: PathBuf, is_folder: bool) -> Self {
        let what = if is_folder { "a folder, where a file belongs" } else { "not a regular file" };
        Self::damage(path, what, Remedy::PutAside("no broker can read it"))
    }

    /// The same, as bad as `severity`.
    #[must_use]
    pub fn as_bad_as(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The same, at a position.
    #[must_use]
    pub fn at(mut self, position: u64) -> Self {
        self.position = Some(position);
        self
    }

    /// The same, at an offset.
    #[must_use]
    pub fn of(mut self, offset: Offset) -> Self {
        self.offset = Some(offset);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(position) = self.position {
            write!(f, ": position {position}")?;
        }
        if let Some(offset) = self.offset {
            let separator = if self.position.is_some() { ", " } else { ": " };
            write!(f, "{separator}offset {offset}")?;
        }
        write!(f, ": {}; {}", self.what, self.remedy)
    }
}

/// Findings of one log, the first of them one by one.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    list: Vec<Finding>,
    hidden: u64,
    damage: u64,
}

impl Findings {
    /// Adds one.
    pub fn push(&mut self, finding: Finding) {
        self.damage += u64::from(finding.severity == Severity::Damage);
        if self.list.len() < FINDINGS_MAX {
            self.list.push(finding);
        } else {
            self.hidden += 1;
        }
    }

    /// Adds all of `other`.
    pub fn append(&mut self, other: Self) {
        let counted = other.list.iter().filter(|one| one.severity == Severity::Damage).count() as u64;
        other.list.into_iter().for_each(|finding| self.push(finding));
        self.hidden += other.hidden;
        self.damage += other.damage - counted;
    }

    /// Those that were kept.
    #[must_use]
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// Those that were kept, to be changed; not in how bad they are.
    pub(super) fn list_mut(&mut self) -> &mut [Finding] {
        &mut self.list
    }

    /// Takes them out.
    #[must_use]
    pub fn into_list(self) -> Vec<Finding> {
        self.list
    }

    /// How many were not kept.
    #[must_use]
    pub fn hidden(&self) -> u64 {
        self.hidden
    }

    /// How many are damage.
    #[must_use]
    pub fn damage(&self) -> u64 {
        self.damage
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Keeps those that `keep` wants. What is hidden stays hidden.
    pub fn retain(&mut self, keep: impl Fn(&Finding) -> bool) {
        let dropped = |one: &Finding| one.severity == Severity::Damage && !keep(one);
        self.damage -= self.list.iter().filter(|one| dropped(one)).count() as u64;
        self.list.retain(keep);
    }
}
