//! Reading what lies on disk without owning it: for `dump-segment`, `verify`, and whoever looks at a directory
//! that a broker, ours or Kafka's, may be writing to at this moment.
//!
//! Opens nothing for writing, takes no lock, maps nothing (a file cut under a map is a SIGBUS) and holds no more
//! of a file than one window or one batch. What it finds wrong it says; it mends nothing.

mod content;
mod indexes;
mod scan;

pub use content::Content;
pub use indexes::{
    OFFSET_ENTRY_SIZE, OffsetEntry, OffsetIndexFile, TIME_ENTRY_SIZE, TimeEntry, TimeIndexFile,
    TransactionIndexFile,
};
pub use scan::{BatchScan, RawBatch, ScanFault};
