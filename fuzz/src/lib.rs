//! What the targets share: the property that message targets check, pieces, and limits that fit libFuzzer's.

mod seeds;

use std::io::IoSlice;
use std::path::Path;

use bytes::Bytes;
use klamm::protocol::Decoder;
use klamm::protocol::messages::{Entry, RecodeError};
use klamm::record::{BatchFrame, BatchRef, InflateLimits, stamp};
use klamm::storage::Disk;
use klamm::storage::disk::Access;

pub use seeds::{
    packed, write_batch_seeds, write_directory_seeds, write_file_seeds, write_folder_seeds,
    write_record_seeds, write_seeds, write_texts,
};

/// What can be read can be printed and written, and what is written reads as the same. Memory is bounded by
/// libFuzzer's `-malloc_limit_mb`.
pub fn recode(entry: &Entry, body: &Bytes, version: i16) {
    match (entry.recode)(body, version) {
        Err(RecodeError::Decode(_)) => {}
        Err(RecodeError::Encode(error)) => panic!("read but not written: {error}"),
        Ok(once) => {
            entry.schema.json(&mut Decoder::new(once.clone()), version).expect("read but not printed");
            assert_eq!((entry.recode)(&once, version).expect("written but not read"), once);
        }
    }
}

/// Limits of a broker in small: whatever comes out is held against a megabyte.
pub const LIMITS: InflateLimits = InflateLimits { floor_bytes: 1 << 20, ratio: 10 };

/// Pieces of two bytes of length each, and what follows.
pub fn pieces(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let (piece, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        data = rest;
        Some(piece)
    })
}

/// Makes a piece of each file of a folder, which is made too, as are folders in it. Pieces that are empty are files that
/// are missing.
pub fn write_folder(disk: &dyn Disk, folder: &Path, files: &[&str], data: &[u8]) {
    write_files(disk, folder, files, pieces(data).map(<[u8]>::to_vec));
}

/// The same with pieces that somebody took apart.
pub fn write_files(disk: &dyn Disk, folder: &Path, files: &[&str], pieces: impl Iterator<Item = Vec<u8>>) {
    disk.create_folder(folder).expect("a folder in memory");
    for (name, piece) in files.iter().zip(pieces).filter(|(_, piece)| !piece.is_empty()) {
        let path = folder.join(name);
        let parent = path.parent().expect("a folder");
        if disk.stat(parent).expect("a disk that does not fail").is_none() {
            disk.create_folder(parent).expect("a folder in memory");
        }
        let file = disk.open(&path, Access::Create).expect("a file in memory");
        file.write_at(&mut [IoSlice::new(&piece)], 0).expect("written");
    }
}

/// Sets the checksums of the batches right that stand whole in a log, one behind the other, so that the fuzzer gets past
/// them.
pub fn seal(log: &mut [u8]) {
    let mut at = 0;
    while let Ok(frame) = BatchFrame::parse(&log[at..]) {
        let Some(bytes) = log.get_mut(at..at + frame.size()) else { return };
        let Ok(batch) = BatchRef::first(bytes) else { return };
        let header = batch.header;
        stamp(bytes, header.timestamp_type(), header.max_timestamp_ms);
        at += frame.size();
    }
}

/// The small files of a log directory, and how their names end.
pub const SMALL_FILES: [&str; 9] = [
    "-offset-checkpoint",
    "leader-epoch-checkpoint",
    "meta.properties",
    "partition.metadata",
    ".kafka_cleanshutdown",
    ".snapshot",
    ".txnindex",
    ".checkpoint",
    "quorum-state",
];
