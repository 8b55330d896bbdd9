//! What a producer sends for one partition. Length, base offset and CRC are set right first, so that the fuzzer
//! gets past them. What the walk accepts can be read, lent and owned alike, and packed anew with any codec.
#![no_main]

use klamm::record::{
    Batch, BatchRef, Codec, Compression, MAGIC, Rewrite, Scratch, WalkRules, recompress, stamp, walk,
};
use klamm::types::{LeaderEpoch, Offset};
use libfuzzer_sys::fuzz_target;

const RULES: WalkRules = WalkRules {
    now_ms: 1_700_000_000_000,
    timestamp_type: klamm::record::TimestampType::CreateTime,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: i64::MAX,
    key_required: false,
    compression: None,
    zstd_allowed: true,
    batch_bytes_max: usize::MAX,
    inflate: klamm_fuzz::LIMITS,
};

fuzz_target!(init: klamm_fuzz::write_batch_seeds("batch", |batch| Some(batch.to_vec())), |data: &[u8]| {
    let mut scratch = Scratch::new();
    // As it came: nothing may go wrong before the CRC either.
    let _ = walk(data, &RULES, &mut scratch);
    let mut bytes = data.to_vec();
    if !seal(&mut bytes) {
        return;
    }
    let Ok(walked) = walk(&bytes, &RULES, &mut scratch) else { return };
    let records = read(&bytes, &mut scratch);
    assert_eq!(records, walked.header.record_count as usize);
    for codec in Codec::ALL {
        let packed = recompress(&bytes, Compression::new(codec), &RULES.inflate, &mut scratch).expect("walked");
        let again = walk(&packed, &RULES, &mut scratch).expect("packed anew");
        assert_eq!(again.max_timestamp_ms, walked.max_timestamp_ms);
        assert_eq!(again.inflated_bytes, walked.inflated_bytes);
        if again.rewrite == Rewrite::None {
            assert_eq!(again.header.max_timestamp_ms, again.max_timestamp_ms);
        }
    }
});

/// Makes header and bytes agree; false where there is no whole header.
fn seal(bytes: &mut [u8]) -> bool {
    if bytes.len() < klamm::record::BATCH_HEADER_SIZE {
        return false;
    }
    let length = (bytes.len() - klamm::record::LOG_OVERHEAD) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = MAGIC as u8;
    klamm::record::assign_offsets(bytes, Offset::ZERO, LeaderEpoch::UNKNOWN);
    let header = BatchRef::first(bytes).expect("a whole batch").header;
    stamp(bytes, header.timestamp_type(), header.max_timestamp_ms);
    true
}

/// Reads the batch both ways, compares, and counts.
fn read(bytes: &[u8], scratch: &mut Scratch) -> usize {
    let owned = Batch::first(&bytes.to_vec().into()).expect("a whole batch");
    let mut owned = owned.records(&RULES.inflate).expect("walked");
    let batch = BatchRef::first(bytes).expect("a whole batch");
    let mut lent = batch.records(&RULES.inflate, scratch).expect("walked");
    let mut count = 0;
    while let Some(record) = lent.next() {
        let record = record.expect("walked");
        assert_eq!(record.to_record(), owned.next().expect("as many").expect("walked"));
        count += 1;
    }
    assert!(owned.next().is_none());
    count
}
