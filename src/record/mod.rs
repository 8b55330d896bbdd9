//! Record batch v2 (magic 2), Kafka's one format on disk and on the wire, in full: header view, record
//! iterator, the walk that every produced batch takes, builder, codecs, control records.
//!
//! Knows neither files nor sockets, and no time but what it is told. Nothing here panics on foreign bytes,
//! and nothing allocates what foreign bytes merely claim.
//!
//! The batch, all integers big-endian:
//! ```text
//!  at  field
//!   0  base offset           i64   \ outside the CRC: a leader assigns them
//!   8  length                i32    | of everything behind this field
//!  12  partition leader epoch i32  /
//!  16  magic                 i8    = 2
//!  17  CRC-32C               u32   of everything from 21 on
//!  21  attributes            i16   codec in bits 0-2, 3 log append time, 4 transactional, 5 control,
//!                                  6 delete horizon set
//!  23  last offset delta     i32
//!  27  base timestamp        i64   (the delete horizon where bit 6 is set)
//!  35  max timestamp         i64
//!  43  producer id           i64
//!  51  producer epoch        i16
//!  53  base sequence         i32
//!  57  record count          i32
//!  61  records, compressed as one piece
//! ```
//! A record: length varint; attributes i8 = 0; timestamp delta varlong; offset delta varint; key (length
//! varint, -1 for null, bytes); value likewise; header count varint; each header a key (length varint,
//! bytes) and a value (length varint, -1 for null, bytes). Varints are zig-zag.
//!
//! Formats 0 and 1 are recognised and refused wherever a batch is due; [`LegacyMessage`] reads them for whoever
//! looks at an old directory.
//!
//! Where to begin: [`BatchHeader::parse`], [`batches`], [`BatchRef::records`], [`walk`], [`BatchBuilder`].

mod batch;
mod builder;
mod compression;
mod control;
mod error;
mod header;
mod legacy;
mod reader;
mod rewrite;
mod stored;
mod varint;
mod walk;

pub use batch::{Batch, BatchRef, Batches, batches};
pub use builder::{BatchBuilder, ProducerState};
pub use compression::{
    Codec, Compression, Compressor, InflateLimits, InvalidLevel, Scratch, compress, inflate_to_vec,
};
pub use control::{CONTROL_KEY_VERSION, ControlKey, ControlType, EndMarker};
pub use error::{BatchError, RecordFault};
pub use header::{
    BATCH_HEADER_SIZE, BatchFrame, BatchHeader, FRAME_SIZE, LOG_OVERHEAD, MAGIC, NO_SEQUENCE, NO_TIMESTAMP,
    TimestampType, advance_sequence, assign_offsets,
};
pub use legacy::LegacyMessage;
pub use reader::{Header, HeaderRef, Headers, HeadersIter, OwnedRecords, Record, RecordReader, RecordRef};
pub use rewrite::{Rewrite, assign_producer, empty_batch, recompress, rewrite, stamp};
pub use stored::{StoredFault, check_records, check_stored};
pub use walk::{RECORD_ERRORS_MAX, RecordError, WalkError, WalkErrorKind, WalkRules, Walked, walk};
