//! Why a node cannot be its own quorum on a directory. Each says the file and what to do.

use std::path::PathBuf;

use thiserror::Error;

use crate::metadata::snapshot::SnapshotWriteError;
use crate::storage::{AppendError, StorageError};

/// Why the controller did not start.
#[derive(Debug, Error)]
pub enum ControllerError {
    /// The metadata belongs to a quorum with other members.
    #[error(
        "{}: the quorum of this directory has the voters {voters:?}, and this node ({node_id}) cannot be a quorum \
         by itself; start it with Apache Kafka, or remove the other voters there first \
         (kafka-metadata-quorum remove-controller)",
        file.display()
    )]
    OtherVoters {
        /// The file that names them.
        file: PathBuf,
        /// Their ids.
        voters: Vec<i32>,
        /// This node.
        node_id: i32,
    },
    /// The voter of this id had another directory.
    #[error(
        "{}: voter {node_id} of this quorum has the directory {found}, not {expected}: this directory was copied or \
         made anew; use the original one",
        file.display()
    )]
    OtherDirectory {
        /// The file that names it.
        file: PathBuf,
        /// This node.
        node_id: i32,
        /// The voter's directory id.
        found: String,
        /// This directory's id.
        expected: String,
    },
    /// Other brokers are part of the cluster.
    #[error(
        "{}: the brokers {brokers:?} are registered in this cluster, and klamm runs alone; start it with Apache \
         Kafka, or unregister them there first (kafka-cluster unregister)",
        file.display()
    )]
    OtherBrokers {
        /// The metadata log's folder.
        file: PathBuf,
        /// Their ids.
        brokers: Vec<i32>,
    },
    /// A transaction of metadata records was begun and never ended.
    #[error(
        "{}: the metadata ends in the middle of a transaction of its controller; start Apache Kafka on the directory \
         once, which ends it, and stop it again",
        file.display()
    )]
    UnfinishedTransaction {
        /// The metadata log's folder.
        file: PathBuf,
    },
    /// Somebody decided who may do what, and nobody here would see to it.
    #[error(
        "{}: the cluster has {count} ACLs, and klamm has no authorizer yet: everybody would be let in; serve the \
         directory with Apache Kafka, or remove them there first (kafka-acls --remove)",
        file.display()
    )]
    Acls {
        /// The metadata log's folder.
        file: PathBuf,
        /// How many.
        count: usize,
    },
    /// Users have passwords, and nobody here would ask for them.
    #[error(
        "{}: users of the cluster have {count} SCRAM credentials, and klamm has no SASL yet: nobody would be asked for \
         them; serve the directory with Apache Kafka, or remove them there first (kafka-configs --alter --entity-type \
         users --delete-config SCRAM-SHA-512)",
        file.display()
    )]
    ScramCredentials {
        /// The metadata log's folder.
        file: PathBuf,
        /// How many.
        count: usize,
    },
    /// Written by rules that are newer than ours.
    #[error("{}: {what}; use the version that wrote it, or a newer klamm", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// What is newer.
        what: String,
    },
    /// The directory belongs to another cluster.
    #[error(
        "{}: cluster id {found} is not this broker's {expected}; give each cluster a directory of its own",
        file.display()
    )]
    OtherCluster {
        /// The file that says so.
        file: PathBuf,
        /// The id in the file.
        found: String,
        /// The id in `meta.properties`.
        expected: String,
    },
    /// A file does not hold what it must.
    #[error("{}: {why}; restore the file from a copy", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was found.
        why: String,
    },
    /// The disk failed.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The log could not be opened or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log did not take a record.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A snapshot could not be written down.
    #[error("a metadata snapshot cannot be written: {0}")]
    Snapshot(#[from] SnapshotWriteError),
    /// A record could not be written down.
    #[error("a metadata record cannot be written: {0}")]
    Record(String),
    /// The system gave no thread or no random bytes.
    #[error("{0}")]
    System(String),
}
