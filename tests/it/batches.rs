//! Record batches that Apache Kafka wrote, read and made again: known answers from `testdata/kafka`.

use std::fs;
use std::path::{Path, PathBuf};

use klamm::record::{
    Batch, BatchBuilder, BatchRef, Codec, Compression, ControlKey, InflateLimits, ProducerState, Rewrite,
    Scratch, TimestampType, WalkErrorKind, WalkRules, assign_offsets, batches, compress, inflate_to_vec,
    walk,
};
use klamm::types::{LeaderEpoch, Offset};

const SOUND: [&str; 4] = ["clean", "static-voters", "killed", "cluster-node"];

fn logs() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = SOUND
        .iter()
        .map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kafka").join(name))
        .collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|suffix| suffix == "log" || suffix == "checkpoint") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Calls `see` with every batch of every sound log, and says how many there were.
fn each_batch(mut see: impl FnMut(&Path, BatchRef<'_>)) -> usize {
    let mut count = 0;
    for path in logs() {
        let bytes = fs::read(&path).unwrap();
        for batch in batches(&bytes) {
            let batch = batch.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            batch.check_crc().unwrap();
            see(&path, batch);
            count += 1;
        }
    }
    count
}

/// The batch, made anew from its records and its header, not compressed.
fn made_again(batch: BatchRef<'_>) -> Vec<u8> {
    let header = batch.header;
    let producer = ProducerState {
        id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        is_transactional: header.is_transactional(),
    };
    let mut builder =
        BatchBuilder::new(Compression::NONE).at(header.base_offset, header.leader_epoch).by(producer);
    if header.is_control() {
        builder = builder.control();
    }
    let owned = Batch::first(&batch.bytes.to_vec().into()).unwrap();
    for record in owned.records(&InflateLimits::default()).unwrap() {
        let record = record.unwrap();
        builder.append_at(
            (record.offset - header.base_offset) as i32,
            record.timestamp_ms,
            record.key.as_deref(),
            record.value.as_deref(),
            record.headers.iter().map(|header| header.as_ref()),
        );
    }
    builder.build().unwrap().to_vec()
}

#[test]
fn what_kafka_wrote_is_what_we_write() {
    let mut scratch = Scratch::new();
    let mut compared = 0;
    let count = each_batch(|path, batch| {
        let header = batch.header;
        // What the cleaner rewrote keeps times and offsets of records that are gone.
        let is_cleaned = path.to_string_lossy().contains("compacted-") || header.record_count == 0;
        if is_cleaned || header.timestamp_type() == TimestampType::LogAppendTime {
            return;
        }
        compared += 1;
        let again = made_again(batch);
        match header.codec().unwrap() {
            Codec::None => assert_eq!(again, batch.bytes, "{} at {}", path.display(), header.base_offset),
            codec => {
                let plain =
                    inflate_to_vec(codec, batch.payload(), &InflateLimits::default(), &mut scratch).unwrap();
                assert_eq!(plain, BatchRef::first(&again).unwrap().payload(), "{}", path.display());
            }
        }
    });
    assert!(count > 250 && compared > 200, "{compared} of {count}");
}

#[test]
fn lz4_and_snappy_are_framed_as_java_frames_them() {
    let mut seen = Vec::new();
    each_batch(|_, batch| {
        let codec = batch.header.codec().unwrap();
        let framing = match codec {
            Codec::Lz4 => 7,
            Codec::Snappy => 16,
            _ => return,
        };
        let ours = compress(codec.into(), b"anything").unwrap();
        assert_eq!(ours[..framing], batch.payload()[..framing], "{codec}");
        seen.push(codec);
    });
    assert!(seen.contains(&Codec::Lz4) && seen.contains(&Codec::Snappy));
}

#[test]
fn what_a_producer_sent_to_kafka_walks_here_unchanged() {
    let mut scratch = Scratch::new();
    let rules =
        WalkRules { timestamp_after_max_ms: i64::MAX, batch_bytes_max: usize::MAX, ..WalkRules::default() };
    let mut walked_count = 0;
    each_batch(|path, batch| {
        let from_producer = !path.to_string_lossy().contains("/__")
            && !path.to_string_lossy().contains("compacted-")
            && path.extension().is_some_and(|suffix| suffix == "log");
        let mut bytes = batch.bytes.to_vec();
        assign_offsets(&mut bytes, Offset::ZERO, LeaderEpoch::UNKNOWN);
        let walked = walk(&bytes, &rules, &mut scratch);
        if batch.header.is_control() {
            assert_eq!(walked.unwrap_err().kind, WalkErrorKind::InvalidRecord);
        } else if from_producer && batch.header.timestamp_type() == TimestampType::CreateTime {
            assert_eq!(walked.unwrap().rewrite, Rewrite::None, "{}", path.display());
            walked_count += 1;
        }
    });
    assert!(walked_count > 80, "{walked_count}");
}

#[test]
fn every_control_record_of_a_cluster_is_known() {
    let mut kinds = Vec::new();
    each_batch(|_, batch| {
        if batch.header.is_control() {
            let mut scratch = Scratch::new();
            let mut records = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
            while let Some(record) = records.next() {
                kinds.push(ControlKey::parse(record.unwrap().key.unwrap()).unwrap().kind.id());
            }
        }
    });
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn s1_8_no_flipped_bit_of_a_batch_of_kafkas_passes_the_crc() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/kafka/clean/codec-lz4-0/00000000000000000000.log");
    let log = fs::read(path).unwrap();
    let whole = BatchRef::first(&log).unwrap().bytes;
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Base offset and leader epoch stand outside the CRC: the leader assigns them.
        let is_covered = bit / 8 >= 16 || (8..12).contains(&(bit / 8));
        let found = BatchRef::first(&bytes).and_then(|batch| batch.check_crc());
        assert_eq!(found.is_err(), is_covered, "bit {bit}");
    }
}
