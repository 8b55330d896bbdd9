//! What can be wrong with a batch, as facts. `walk` turns them into what Kafka answers to a producer;
//! storage and the inspector name file and position around them.

use thiserror::Error;

use super::compression::Codec;

/// Why bytes are not a record batch that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch ends early: {needed} bytes are needed, {available} are there")]
    Truncated {
        /// Bytes that the header, or its length field, asks for.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// The length field is smaller than a header of this magic.
    #[error("the batch says it is {length} bytes long, less than its own header")]
    InvalidLength {
        /// The length field.
        length: i32,
    },
    /// Magic 0 or 1: a message set from before Kafka 0.11.
    #[error(
        "message format v{magic} (magic {magic}, from before Kafka 0.11) is not supported; v2 is the only one"
    )]
    OldMagic {
        /// 0 or 1.
        magic: i8,
    },
    /// A magic that no Kafka has written.
    #[error("unknown magic {magic}; 2 is the only record batch format")]
    UnknownMagic {
        /// The magic byte.
        magic: i8,
    },
    /// The checksum over everything from the attributes on does not match.
    #[error("CRC-32C mismatch: the batch says {stored}, its bytes give {computed}")]
    CrcMismatch {
        /// From the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// The codec bits hold 5, 6 or 7.
    #[error("unknown compression codec {id}")]
    UnknownCodec {
        /// The codec bits.
        id: u8,
    },
    /// The compressed piece is not what its codec writes.
    #[error("{} data is broken: {why}", codec.name())]
    Inflate {
        /// The batch's codec.
        codec: Codec,
        /// What was found.
        why: String,
    },
    /// The records inflate beyond the cap.
    #[error("{} data inflates to more than {limit} bytes", codec.name())]
    InflatesTooFar {
        /// The batch's codec.
        codec: Codec,
        /// The cap that was in force.
        limit: u64,
    },
    /// One record breaks the grammar.
    #[error("record {index}: {fault}")]
    Record {
        /// The record's place in the batch, from 0.
        index: i32,
        /// How.
        fault: RecordFault,
    },
    /// The record count is negative.
    #[error("the batch counts {count} records")]
    InvalidCount {
        /// The count field.
        count: i32,
    },
    /// Bytes are left after the last counted record.
    #[error("{count} records are counted, but more bytes follow the last one")]
    TrailingBytes {
        /// The count field.
        count: i32,
    },
}

/// How a record breaks the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordFault {
    /// The batch ends inside the record.
    #[error("the batch ends inside it")]
    OutOfBytes,
    /// A varint that does not end within 5 (varlong: 10) bytes.
    #[error("a varint does not end")]
    EndlessVarint,
    /// A negative record length.
    #[error("its length is {0}")]
    InvalidLength(i32),
    /// The fields take more or fewer bytes than the record's length says.
    #[error("its length is {declared}, its fields take {actual} bytes")]
    SizeMismatch {
        /// The record's length field.
        declared: i32,
        /// What its fields took.
        actual: u64,
    },
    /// A header count that is negative or cannot fit.
    #[error("it counts {0} headers")]
    InvalidHeaderCount(i32),
    /// A null header key.
    #[error("a header key has length {0}")]
    InvalidHeaderKeyLength(i32),
}
