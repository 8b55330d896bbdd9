//! `__consumer_offsets` as a coordinator loads it: a piece for each key and each value. What is read can be written
//! and reads as the same; a shard takes whatever comes.
#![no_main]

use bytes::Bytes;
use klamm::coordinator::{GroupRecord, Shard};
use klamm::types::{Offset, ProducerId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: klamm_fuzz::write_record_seeds("group_record", "__consumer_offsets", true),
    |data: &[u8]| {
        let mut shard = Shard::new();
        let mut offset = Offset::ZERO;
        let mut pieces = klamm_fuzz::pieces(data).map(Bytes::copy_from_slice);
        while let (Some(key), Some(value)) = (pieces.next(), pieces.next()) {
            let value = (!value.is_empty()).then_some(value);
            let Ok(record) = GroupRecord::decode(Some(&key), value.as_ref()) else { continue };
            if !matches!(record, GroupRecord::ForeignGroup { .. } | GroupRecord::Unread { .. }) {
                let (key, value) = record.encode().expect("read but not written");
                let again = GroupRecord::decode(Some(&key), value.as_ref()).expect("written but not read");
                assert_eq!(again.encode().expect("written"), (key, value));
            }
            let transaction = (offset.0 % 3 == 2).then_some(ProducerId(1));
            shard.replay(offset, &record, transaction);
            offset = offset + 1;
        }
        shard.end_transaction(ProducerId(1), data.len().is_multiple_of(2));
    }
);
