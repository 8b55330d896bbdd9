//! What a disk has done so far, by kind of file: the rows that metrics and tests look at.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What a file is for, by its name: the rows of [`DiskStats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `.log` of a partition.
    Log,
    /// `.log` of `__cluster_metadata`, which every start replays.
    MetadataLog,
    /// `.index`.
    OffsetIndex,
    /// `.timeindex`.
    TimeIndex,
    /// `.txnindex`.
    TransactionIndex,
    /// `.snapshot`.
    Snapshot,
    /// Everything else: checkpoints, properties.
    Other,
}

impl FileKind {
    /// All kinds, in the order of the rows.
    pub const ALL: [Self; 7] = [
        Self::Log,
        Self::MetadataLog,
        Self::OffsetIndex,
        Self::TimeIndex,
        Self::TransactionIndex,
        Self::Snapshot,
        Self::Other,
    ];

    /// The kind of the file at `path`.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("log") => {
                let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
                if folder.is_some_and(|name| name.starts_with("__cluster_metadata-")) {
                    Self::MetadataLog
                } else {
                    Self::Log
                }
            }
            Some("index") => Self::OffsetIndex,
            Some("timeindex") => Self::TimeIndex,
            Some("txnindex") => Self::TransactionIndex,
            Some("snapshot") => Self::Snapshot,
            _ => Self::Other,
        }
    }
}

/// Counts of one [`FileKind`]. Ranges handed out as [`super::disk::Region::File`] are read by others and not counted.
#[derive(Debug, Default)]
pub struct KindStats {
    /// Bytes read, mapped files not included.
    pub bytes_read: AtomicU64,
    /// Bytes written.
    pub bytes_written: AtomicU64,
    /// Calls of [`super::disk::DiskFile::sync`].
    pub syncs: AtomicU64,
    /// Files opened.
    pub opens: AtomicU64,
}

/// What a disk did since it was made.
#[derive(Debug, Default)]
pub struct DiskStats {
    kinds: [KindStats; FileKind::ALL.len()],
    /// Files that are open now. Ranges of them that are being sent are not counted.
    pub(super) open_files: AtomicUsize,
}

impl DiskStats {
    /// The row of `kind`.
    #[must_use]
    pub fn of(&self, kind: FileKind) -> &KindStats {
        &self.kinds[kind as usize]
    }

    /// How many files are open now.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.open_files.load(Ordering::Relaxed)
    }
}
