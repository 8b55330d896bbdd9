//! What a start finds in a directory, and whether this node may have it. Nothing here writes: a directory that
//! is refused stays as it is, byte for byte.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::metadata::record::LEVELS;
use crate::metadata::{Image, METADATA_VERSION, MetadataRecord};
use crate::protocol::messages::voters_record::VotersRecord;
use crate::storage::disk::read_small;
use crate::storage::{Disk, METADATA_TOPIC};
use crate::types::Uuid;

use super::error::ControllerError;
use super::incarnation::is_adopted;
use super::quorum_state::QuorumState;
use super::replay::{Replayed, io, read_bootstrap, replay};

/// The features that a new log begins with.
pub(super) const BOOTSTRAP_FILE: &str = "bootstrap.checkpoint";
/// Who leads the quorum.
pub(super) const QUORUM_STATE_FILE: &str = "quorum-state";

/// Whose the metadata must be.
#[derive(Clone, Debug)]
pub struct Claimant {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The log directory that holds, or will hold, `__cluster_metadata-0`.
    pub metadata_dir: PathBuf,
    /// Its id in `meta.properties`; zero where it has none yet.
    pub metadata_dir_id: Uuid,
    /// The cluster's id in `meta.properties`.
    pub cluster_id: String,
    /// `node.id`
    pub node_id: i32,
    /// Whether the quorum has, or may have, other voters and brokers.
    pub has_several_voters: bool,
}

/// The metadata of a directory, read and found fit.
#[derive(Debug)]
pub struct FoundMetadata {
    pub(super) replayed: Replayed,
    pub(super) state: Option<QuorumState>,
    pub(super) bootstrap: Option<Vec<MetadataRecord>>,
}

impl FoundMetadata {
    /// What was agreed on before this start.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.replayed.image
    }

    /// Whether the topics were made under a server.properties of Kafka, which is in no directory: it was not
    /// klamm that ran here last, or klamm has taken over from such a one.
    #[must_use]
    pub fn is_adopted(&self, node_id: i32) -> bool {
        is_adopted(&self.replayed.image, node_id)
    }

    /// Nothing was ever there, or the first start was cut short: nobody was told of what its log may hold.
    pub(super) fn is_new(&self) -> bool {
        self.replayed.snapshot.is_none() && self.state.is_none() && self.bootstrap.is_none()
    }
}

impl Claimant {
    pub(super) fn folder(&self) -> PathBuf {
        self.metadata_dir.join(format!("{METADATA_TOPIC}-0"))
    }

    /// Reads the metadata and checks that this node can be its quorum, alone, and understands and honours all
    /// of it.
    pub(super) fn examine(&self) -> Result<FoundMetadata, ControllerError> {
        let folder = self.folder();
        let (disk, bootstrap_file) = (&*self.disk, self.metadata_dir.join(BOOTSTRAP_FILE));
        let state_file = folder.join(QUORUM_STATE_FILE);
        let replayed = replay(disk, &folder)?;
        // One without a record says nothing, as one that is not there.
        let bootstrap = read_bootstrap(disk, &bootstrap_file)?.filter(|records| !records.is_empty());
        let state = self.read_state(&state_file)?;
        if !self.has_several_voters
            && let Some((file, voters)) = &replayed.voters
        {
            self.check_voters(file, voters)?;
        }
        if let Some(state) = &state {
            self.check_state(&state_file, state)?;
        }
        self.check_image(&folder, &replayed.image)?;
        for record in bootstrap.iter().flatten() {
            if let MetadataRecord::FeatureLevel(feature) = record
                && &*feature.name == METADATA_VERSION
            {
                check_level(&bootstrap_file, feature.feature_level)?;
            }
        }
        Ok(FoundMetadata { replayed, state, bootstrap })
    }

    fn read_state(&self, file: &Path) -> Result<Option<QuorumState>, ControllerError> {
        let Some(bytes) = read_small(&*self.disk, file).map_err(io(file))? else { return Ok(None) };
        let damaged = |why| ControllerError::Damaged { file: file.to_owned(), why };
        QuorumState::parse(&bytes).map(Some).map_err(damaged)
    }

    fn check_state(&self, file: &Path, state: &QuorumState) -> Result<(), ControllerError> {
        let node_id = self.node_id;
        if !self.has_several_voters
            && let Some(voters) = &state.current_voters
            && voters.iter().any(|voter| *voter != node_id)
        {
            let (file, voters) = (file.to_owned(), voters.clone());
            return Err(ControllerError::OtherVoters { file, voters, node_id });
        }
        if !state.cluster_id.is_empty() && state.cluster_id != self.cluster_id {
            return Err(ControllerError::OtherCluster {
                file: file.to_owned(),
                found: state.cluster_id.clone(),
                expected: self.cluster_id.clone(),
            });
        }
        Ok(())
    }

    fn check_voters(&self, file: &Path, record: &VotersRecord) -> Result<(), ControllerError> {
        let node_id = self.node_id;
        let voters: Vec<i32> = record.voters.iter().map(|voter| voter.voter_id).collect();
        if voters != [node_id] {
            return Err(ControllerError::OtherVoters { file: file.to_owned(), voters, node_id });
        }
        let found = record.voters[0].voter_directory_id;
        if found != self.metadata_dir_id && !found.is_zero() {
            return Err(ControllerError::OtherDirectory {
                file: file.to_owned(),
                node_id,
                found: found.to_string(),
                expected: self.metadata_dir_id.to_string(),
            });
        }
        Ok(())
    }

    fn check_image(&self, folder: &Path, image: &Image) -> Result<(), ControllerError> {
        let file = || folder.to_owned();
        let brokers: Vec<i32> = image.brokers().keys().copied().filter(|id| *id != self.node_id).collect();
        if !brokers.is_empty() && !self.has_several_voters {
            return Err(ControllerError::OtherBrokers { file: file(), brokers });
        }
        check_level(folder, image.feature(METADATA_VERSION))?;
        // With several voters, whoever takes office ends it.
        if image.in_transaction() && !self.has_several_voters {
            return Err(ControllerError::UnfinishedTransaction { file: file() });
        }
        let (acls, scram) = (image.acl_count(), image.scram_credential_count());
        if acls > 0 {
            return Err(ControllerError::Acls { file: file(), count: acls });
        }
        if scram > 0 {
            return Err(ControllerError::ScramCredentials { file: file(), count: scram });
        }
        Ok(())
    }
}

fn check_level(file: &Path, level: i16) -> Result<(), ControllerError> {
    // A log without features has none yet.
    if level == 0 || LEVELS.contains(&level) {
        return Ok(());
    }
    let what = format!("its metadata.version is {level}; {} to {} are known", LEVELS.start(), LEVELS.end());
    Err(ControllerError::NewerFormat { file: file.to_owned(), what })
}
