//! The metadata log and its snapshots. As they come, the bytes are a snapshot; then, cut into pieces by their
//! lengths, the records of one that is framed and sealed as it must be. What is taken is written as a snapshot
//! that reads as the same image.
#![no_main]

use bytes::Bytes;
use klamm::metadata::snapshot::{SnapshotHead, SnapshotId, SnapshotWriter};
use klamm::metadata::{MetadataRecord, Replay, records_of_file};
use klamm::record::{Batch, BatchBuilder, Compression};
use klamm::types::{LeaderEpoch, Offset};
use libfuzzer_sys::fuzz_target;

const ID: SnapshotId = SnapshotId { end_offset: Offset(9), epoch: LeaderEpoch(1) };

fuzz_target!(init: klamm_fuzz::write_record_seeds("metadata", "__cluster_metadata", false), |data: &[u8]| {
    let whole = Bytes::copy_from_slice(data);
    let _ = Replay::default().load_snapshot(ID, whole.clone());
    let _ = records_of_file(whole);
    let mut replay = Replay::default();
    let mut next = Offset::ZERO;
    for value in klamm_fuzz::pieces(data) {
        let Ok(record) = MetadataRecord::decode(Bytes::copy_from_slice(value)) else { continue };
        // What can be read can be written, in every version that a cluster may want.
        for level in [7, 14, 22, 30] {
            record.encode(level).expect("read but not written");
        }
        let mut batch = BatchBuilder::new(Compression::NONE).at(next, LeaderEpoch(1));
        batch.append(0, None, Some(value), []);
        let batch = Batch::first(&batch.build().expect("built")).expect("a whole batch");
        if replay.take(&batch).is_err() {
            return;
        }
        next = batch.header.next_offset();
    }
    let image = replay.finish();
    if image.in_transaction() {
        return;
    }
    let head = SnapshotHead { id: ID, last_contained_timestamp_ms: 0, now_ms: 0, voters: None };
    let mut writer = SnapshotWriter::new(&head, 30).expect("a head");
    for record in image.to_records() {
        writer.append(&record).expect("read but not written");
    }
    let mut again = Replay::default();
    again.load_snapshot(ID, writer.finish().expect("an end").into()).expect("written but not read");
    assert_eq!(format!("{:?}", again.finish().to_records()), format!("{:?}", image.to_records()));
});
