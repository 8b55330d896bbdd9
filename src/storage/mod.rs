//! Partitions on disk, in Kafka's own formats.
//!
//! [`LogDirectories`] finds, locks and plans; [`Log`] is one partition: batches in segments, with indexes,
//! producer state and leader epochs beside them. All of it is synchronous and has no threads, no clock and no
//! lock of its own; system calls are in [`disk`] alone, behind a seam that a hostile disk can take.
//!
//! What it promises: a batch that `append` has taken survives a killed process, one below
//! [`Log::flushed_offset`] a power cut; a read never shows half of either. After a failed write nothing more is
//! taken on that directory. What a crash leaves is mended at the next open, without asking.

pub mod checkpoint;
pub mod cleaner;
mod deletions;
mod directories;
mod directory;
pub mod disk;
mod disk_stats;
mod error;
mod guard;
pub mod hostile;
mod index_file;
pub mod inspect;
mod leader_epochs;
mod log;
mod offset_index;
mod options;
pub mod place;
pub mod producer_snapshot;
mod producer_state;
pub mod reader;
mod recovery;
mod scan;
mod segment;
mod time_index;
pub mod transaction_index;
pub mod verify;

pub use deletions::DeletionQueue;
pub use directories::LogDirectories;
pub use directory::{Checkpoint, DirectoryError, LogDirectory, LogPoint, METADATA_TOPIC, PlannedLog};
pub use disk::{Disk, DiskFile, FileKind, RealDisk, Region};
pub use error::{AppendError, DirectoryOffline, ReadError, StorageError};
pub use guard::{GuardedDisk, Health};
pub use leader_epochs::{EpochEnd, LeaderEpochs};
pub use log::{
    Appended, Deleted, Dirtiness, Extract, FlushTicket, Log, LogHome, ReadOutcome, ReadSlice,
    folder_name_for_delete, folder_name_for_future, folder_name_for_stray,
};
pub use options::LogOptions;
pub use producer_state::{ActiveProducer, AppendOrigin};
pub use recovery::{OpenHints, Recovered};
pub use segment::TimestampOffset;
pub use transaction_index::AbortedTransaction;
