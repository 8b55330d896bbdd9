//! What Kafka answers to good and bad Produce batches, each case named after its row where it has one.

use proptest::prelude::*;

use super::super::header::{ATTRIBUTES_AT, BATCH_HEADER_SIZE, MAX_TIMESTAMP_AT, seal};
use super::super::reader::HeaderRef;
use super::super::rewrite::{rewrite, stamp};
use super::super::{BatchBuilder, ProducerState, batches};
use super::*;
use crate::types::{LeaderEpoch, ProducerEpoch, ProducerId};

const NOW_MS: i64 = 1_700_000_000_000;

fn rules() -> WalkRules {
    WalkRules { now_ms: NOW_MS, ..WalkRules::default() }
}

fn batch(codec: Codec, count: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec.into());
    for i in 0..count {
        let value = vec![b'v'; 100];
        let header = HeaderRef { key: b"h", value: (i % 2 == 0).then_some(b"x".as_slice()) };
        builder.append(NOW_MS + i64::from(i % 7), Some(b"k"), Some(&value), [header, header]);
    }
    builder.build().unwrap().to_vec()
}

/// The batch with `bytes` put in at `at`, sealed again.
fn patched(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut batch);
    batch
}

/// A batch of these record bytes, which claims `count` records.
fn raw_batch(records: &[u8], count: i32) -> Vec<u8> {
    let mut out = BatchBuilder::new(Compression::NONE).build().unwrap().to_vec();
    out.extend_from_slice(records);
    let length = (out.len() - 12) as i32;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    patched(out, 57, &count.to_be_bytes())
}

fn refused(bytes: &[u8], rules: &WalkRules) -> WalkError {
    walk(bytes, rules, &mut Scratch::new()).unwrap_err()
}

fn kind(bytes: &[u8]) -> WalkErrorKind {
    refused(bytes, &rules()).kind
}

#[test]
fn a_good_batch_stays_as_it_came_whatever_its_codec() {
    let mut scratch = Scratch::new();
    for codec in Codec::ALL {
        for count in [1, 7, 3_000] {
            let bytes = batch(codec, count);
            let walked = walk(&bytes, &rules(), &mut scratch).unwrap();
            assert_eq!(walked.rewrite, Rewrite::None, "{codec}");
            assert_eq!(walked.header.record_count, count);
            let delta = (count - 1).min(6);
            assert_eq!(
                (walked.max_timestamp_ms, walked.offset_delta_of_max_timestamp),
                (NOW_MS + i64::from(delta), delta)
            );
        }
    }
}

#[test]
fn records_larger_than_the_window_stream_past_it() {
    let mut scratch = Scratch::new();
    let rules = WalkRules { batch_bytes_max: usize::MAX, ..rules() };
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(codec.into());
        for len in [0, 1_000_000, 3, 200_000] {
            let noise: Vec<u8> =
                (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let header = HeaderRef { key: &noise, value: Some(&noise) };
            builder.append(NOW_MS, Some(&noise), Some(&noise), [header]);
        }
        let bytes = builder.build().unwrap();
        let walked = walk(&bytes, &rules, &mut scratch).unwrap();
        assert!(walked.inflated_bytes > 4_800_000, "{codec}");
    }
    assert!(format!("{scratch:?}").contains("131072"), "the window did not grow: {scratch:?}");
}

#[test]
fn s1_8_no_batch_and_two_batches_are_invalid() {
    assert_eq!(kind(&[]), WalkErrorKind::InvalidRecord);
    let mut two = batch(Codec::None, 2);
    two.extend(batch(Codec::None, 1));
    let error = refused(&two, &rules());
    assert_eq!(error.kind, WalkErrorKind::InvalidRecord);
    assert!(error.message.contains("more than one"), "{error}");
    let mut tailed = batch(Codec::None, 2);
    tailed.push(0);
    assert_eq!(kind(&tailed), WalkErrorKind::InvalidRecord);
}

#[test]
fn s1_8_half_a_batch_is_invalid_at_every_length() {
    let whole = batch(Codec::Lz4, 3);
    for len in 0..whole.len() {
        assert_eq!(kind(&whole[..len]), WalkErrorKind::InvalidRecord, "{len}");
    }
}

#[test]
fn s1_8_negative_and_giant_lengths_are_refused() {
    for length in [i32::MIN, -1, 0, 48] {
        let bytes = patched(batch(Codec::None, 1), 8, &length.to_be_bytes());
        assert_eq!(kind(&bytes), WalkErrorKind::CorruptMessage, "{length}");
    }
    let giant = patched(batch(Codec::None, 1), 8, &i32::MAX.to_be_bytes());
    assert_eq!(kind(&giant), WalkErrorKind::InvalidRecord);
}

#[test]
fn s1_8_old_magics_are_named_and_refused() {
    for magic in [0u8, 1] {
        let error = refused(&patched(batch(Codec::None, 1), 16, &[magic]), &rules());
        assert_eq!(error.kind, WalkErrorKind::InvalidRecord);
        assert!(error.message.contains(&format!("magic {magic}")), "{error}");
    }
    assert_eq!(kind(&patched(batch(Codec::None, 1), 16, &[3])), WalkErrorKind::CorruptMessage);
}

#[test]
fn s1_8_a_wrong_crc_is_corrupt() {
    for codec in Codec::ALL {
        let whole = batch(codec, 2);
        for at in BATCH_HEADER_SIZE..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            assert_eq!(kind(&bytes), WalkErrorKind::CorruptMessage, "{codec} at {at}");
        }
    }
}

#[test]
fn s1_8_counts_and_deltas_that_disagree_are_invalid() {
    for codec in Codec::ALL {
        for (at, value) in [(57, 0), (57, -1), (57, 2), (57, 4), (57, i32::MAX), (23, 1), (23, 3), (23, -1)] {
            let bytes = patched(batch(codec, 3), at, &i32::to_be_bytes(value));
            assert_eq!(kind(&bytes), WalkErrorKind::InvalidRecord, "{codec}: {value} at {at}");
        }
        // Count and last offset delta agree with each other, but not with the records.
        for count in [2i32, 4] {
            let bytes = patched(batch(codec, 3), 57, &count.to_be_bytes());
            let bytes = patched(bytes, 23, &(count - 1).to_be_bytes());
            assert_eq!(kind(&bytes), WalkErrorKind::InvalidRecord, "{codec}: {count}");
        }
    }
}

#[test]
fn s1_8_offset_deltas_out_of_step_name_the_record() {
    let mut builder = BatchBuilder::new(Compression::NONE);
    builder.append(NOW_MS, None, None, []);
    builder.append_at(5, NOW_MS, None, None, []);
    let bytes = patched(builder.build().unwrap().to_vec(), 23, &1i32.to_be_bytes());
    let error = refused(&bytes, &rules());
    assert_eq!(error.kind, WalkErrorKind::InvalidRecord);
    assert_eq!(error.record_errors.len(), 1);
    assert_eq!(error.record_errors[0].index, 1);
}

#[test]
fn s1_8_a_base_offset_other_than_zero_is_invalid() {
    assert_eq!(kind(&patched(batch(Codec::None, 1), 0, &1i64.to_be_bytes())), WalkErrorKind::InvalidRecord);
}

#[test]
fn s1_8_a_clients_control_bit_is_invalid() {
    let marker = BatchBuilder::end_marker(ProducerId(1), ProducerEpoch(0), NOW_MS, true, 0).unwrap();
    let error = refused(&marker, &rules());
    assert_eq!(error.kind, WalkErrorKind::InvalidRecord);
    assert!(error.message.contains("control"), "{error}");
}

#[test]
fn s1_8_codecs_that_do_not_exist_and_garbage_are_invalid() {
    for id in [5u8, 6, 7] {
        let bytes = patched(batch(Codec::None, 1), ATTRIBUTES_AT + 1, &[id]);
        let error = refused(&bytes, &rules());
        assert_eq!(error.kind, WalkErrorKind::InvalidRecord);
        assert!(error.message.contains(&id.to_string()), "{error}");
    }
    for id in 1u8..=4 {
        let bytes = patched(batch(Codec::None, 1), ATTRIBUTES_AT + 1, &[id]);
        assert_eq!(kind(&bytes), WalkErrorKind::InvalidRecord, "codec {id} over plain bytes");
    }
}

#[test]
fn s1_8_nested_compression_is_only_bytes() {
    let inner = batch(Codec::Gzip, 3);
    let mut builder = BatchBuilder::new(Codec::Gzip.into());
    builder.append(NOW_MS, None, Some(&inner), []);
    let walked = walk(&builder.build().unwrap(), &rules(), &mut Scratch::new()).unwrap();
    assert_eq!(walked.header.record_count, 1);
}

#[test]
fn s1_8_timestamps_beyond_the_limit_name_their_records() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(codec.into());
        let rules = WalkRules { timestamp_before_max_ms: 1_000, ..rules() };
        for timestamp in [NOW_MS, NOW_MS + 3_600_001, -1, NOW_MS - 1_001, NOW_MS - 1_000, NOW_MS + 3_600_000]
        {
            builder.append(timestamp, None, Some(b"v"), []);
        }
        let error = refused(&builder.build().unwrap(), &rules);
        assert_eq!(error.kind, WalkErrorKind::InvalidTimestamp);
        let blamed: Vec<_> = error.record_errors.iter().map(|record| record.index).collect();
        assert_eq!(blamed, [1, 3], "{codec}");
    }
}

#[test]
fn a_producer_that_gets_every_record_wrong_is_answered_briefly() {
    let rules = WalkRules { key_required: true, ..rules() };
    let mut builder = BatchBuilder::new(Codec::Zstd.into());
    for _ in 0..5_000 {
        builder.append(NOW_MS, None, None, []);
    }
    let error = refused(&builder.build().unwrap(), &rules);
    assert_eq!(error.kind, WalkErrorKind::InvalidRecord);
    assert_eq!(error.record_errors.len(), RECORD_ERRORS_MAX);
    assert!(error.message.contains("5000 of 5000"), "{error}");
}

#[test]
fn s1_8_a_max_timestamp_that_lies_is_stamped_right() {
    for codec in Codec::ALL {
        let lying = patched(batch(codec, 9), MAX_TIMESTAMP_AT, &(NOW_MS + 900).to_be_bytes());
        let mut scratch = Scratch::new();
        let walked = walk(&lying, &rules(), &mut scratch).unwrap();
        assert_eq!(walked.rewrite, Rewrite::Stamp);
        let mended = rewrite(&lying, &walked, &rules().inflate, &mut scratch).unwrap();
        assert_eq!(mended, batch(codec, 9), "{codec}");
    }
}

#[test]
fn s1_8_log_append_time_is_stamped_in_place() {
    let rules = WalkRules { timestamp_type: TimestampType::LogAppendTime, ..rules() };
    let mut bytes = batch(Codec::Gzip, 9);
    let walked = walk(&bytes, &rules, &mut Scratch::new()).unwrap();
    assert_eq!((walked.rewrite, walked.offset_delta_of_max_timestamp), (Rewrite::Stamp, 8));
    stamp(&mut bytes, walked.timestamp_type, walked.max_timestamp_ms);
    let batch = BatchRef::first(&bytes).unwrap();
    batch.check_crc().unwrap();
    assert_eq!(batch.header.timestamp_type(), TimestampType::LogAppendTime);
    let mut scratch = Scratch::new();
    let mut records = batch.records(&rules.inflate, &mut scratch).unwrap();
    while let Some(record) = records.next() {
        assert_eq!(record.unwrap().timestamp_ms, NOW_MS);
    }
    // And from a producer the bit is refused.
    assert_eq!(refused(&bytes, &rules).kind, WalkErrorKind::InvalidTimestamp);
}

#[test]
fn s1_8_another_codec_than_the_topics_is_recompressed() {
    let mut scratch = Scratch::new();
    for from in Codec::ALL {
        for to in Codec::ALL {
            let rules = WalkRules { compression: Some(to.into()), ..rules() };
            let bytes = batch(from, 40);
            let walked = walk(&bytes, &rules, &mut scratch).unwrap();
            let expected = if from == to { Rewrite::None } else { Rewrite::Recompress(to.into()) };
            assert_eq!(walked.rewrite, expected);
            let out = rewrite(&bytes, &walked, &rules.inflate, &mut scratch).unwrap();
            assert_eq!(out, batch(to, 40), "{from} to {to}");
        }
    }
}

#[test]
fn a_sequence_is_needed_where_there_is_a_producer() {
    let by = |base_sequence| {
        let producer = ProducerState {
            id: ProducerId(9),
            epoch: ProducerEpoch(0),
            base_sequence,
            is_transactional: false,
        };
        let mut builder = BatchBuilder::new(Compression::NONE).by(producer);
        builder.append(NOW_MS, None, None, []);
        builder.build().unwrap()
    };
    assert!(walk(&by(0), &rules(), &mut Scratch::new()).is_ok());
    assert_eq!(kind(&by(-1)), WalkErrorKind::InvalidRecord);
}

#[test]
fn old_requests_may_not_carry_zstd_and_no_request_more_than_the_topic_takes() {
    let bytes = batch(Codec::Zstd, 2);
    let no_zstd = WalkRules { zstd_allowed: false, ..rules() };
    assert_eq!(refused(&bytes, &no_zstd).kind, WalkErrorKind::UnsupportedCompressionType);
    let small = WalkRules { batch_bytes_max: bytes.len() - 1, ..rules() };
    assert_eq!(refused(&bytes, &small).kind, WalkErrorKind::RecordTooLarge);
    let exact = WalkRules { batch_bytes_max: bytes.len(), ..rules() };
    assert!(walk(&bytes, &exact, &mut Scratch::new()).is_ok());
}

#[test]
fn s1_8_records_that_break_the_grammar_are_invalid() {
    // length 6, attributes, deltas, null key, null value, no headers: the good one to bend.
    let good = [0x0c, 0, 0, 0, 1, 1, 0];
    assert!(walk(&raw_batch(&good, 1), &rules(), &mut Scratch::new()).is_ok());
    let bent: &[(&str, &[u8])] = &[
        ("length beyond the batch", &[0x0e, 0, 0, 0, 1, 1, 0]),
        ("length too short", &[0x0a, 0, 0, 0, 1, 1, 0]),
        ("negative length", &[0x01, 0, 0, 0, 1, 1, 0]),
        ("length zero", &[0x00, 0, 0, 0, 1, 1, 0]),
        ("endless varint", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("key beyond the record", &[0x0c, 0, 0, 0, 8, 1, 0]),
        ("key of 2 GiB", &[0x14, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 1, 0]),
        ("value beyond the record", &[0x0c, 0, 0, 0, 1, 8, 0]),
        ("a header that is not there", &[0x0c, 0, 0, 0, 1, 1, 2]),
        ("a negative header count", &[0x0c, 0, 0, 0, 1, 1, 1]),
        ("a null header key", &[0x10, 0, 0, 0, 1, 1, 2, 1, 1]),
        ("bytes after the headers", &[0x0e, 0, 0, 0, 1, 1, 0, 0]),
        ("bytes after the record", &[0x0c, 0, 0, 0, 1, 1, 0, 0]),
        ("nothing at all", &[]),
    ];
    for (what, records) in bent {
        for codec in Codec::ALL {
            let plain = raw_batch(records, 1);
            let limits = InflateLimits::default();
            let packed =
                super::super::recompress(&plain, codec.into(), &limits, &mut Scratch::new()).unwrap();
            assert_eq!(kind(&packed), WalkErrorKind::InvalidRecord, "{what}, {codec}");
            // The reader finds the same, and does not panic.
            let batch = BatchRef::first(&packed).unwrap();
            let mut scratch = Scratch::new();
            let mut found = batch.records(&limits, &mut scratch).and_then(|mut records| {
                while let Some(record) = records.next() {
                    record?;
                }
                Ok(())
            });
            assert!(found.is_err(), "{what}, {codec}");
            found = super::super::Batch::first(&packed.into())
                .unwrap()
                .records(&limits)
                .and_then(|mut records| records.try_for_each(|record| record.map(|_| ())));
            assert!(found.is_err(), "{what}, {codec}");
        }
    }
}

#[derive(Debug, Clone)]
struct Spec {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn spec() -> impl Strategy<Value = Spec> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..150);
    let headers = proptest::collection::vec((bytes(), proptest::option::of(bytes())), 0..4);
    (any::<i64>(), proptest::option::of(bytes()), proptest::option::of(bytes()), headers).prop_map(
        |(timestamp, key, value, headers)| Spec { timestamp: timestamp.max(0), key, value, headers },
    )
}

proptest! {
    #[test]
    fn whatever_is_built_is_walked_and_read_back(
        specs in proptest::collection::vec(spec(), 1..12), which in 0usize..5, base in 0i64..i64::MAX / 2,
    ) {
        let mut builder = BatchBuilder::new(Codec::ALL[which].into());
        for spec in &specs {
            let headers = spec.headers.iter().map(|(key, value)| HeaderRef { key, value: value.as_deref() });
            builder.append(spec.timestamp, spec.key.as_deref(), spec.value.as_deref(), headers);
        }
        let mut bytes = builder.build().unwrap().to_vec();
        let rules = WalkRules { timestamp_after_max_ms: i64::MAX, ..rules() };
        let walked = walk(&bytes, &rules, &mut Scratch::new()).unwrap();
        prop_assert_eq!(walked.rewrite, Rewrite::None);
        super::super::assign_offsets(&mut bytes, Offset(base), LeaderEpoch(3));
        let batch = super::super::Batch::first(&bytes.clone().into()).unwrap();
        batch.as_ref().check_crc().unwrap();
        let owned: Vec<_> = batch.records(&rules.inflate).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(owned.len(), specs.len());
        let mut scratch = Scratch::new();
        let mut lent = batch.as_ref().records(&rules.inflate, &mut scratch).unwrap();
        for (index, (record, spec)) in owned.iter().zip(&specs).enumerate() {
            prop_assert_eq!(&lent.next().unwrap().unwrap().to_record(), record);
            prop_assert_eq!(record.offset, Offset(base + index as i64));
            prop_assert_eq!(record.timestamp_ms, spec.timestamp);
            prop_assert_eq!(record.key.as_deref(), spec.key.as_deref());
            prop_assert_eq!(record.value.as_deref(), spec.value.as_deref());
            let headers: Vec<_> =
                record.headers.iter().map(|h| (h.key.to_vec(), h.value.as_ref().map(|v| v.to_vec()))).collect();
            prop_assert_eq!(&headers, &spec.headers);
        }
        prop_assert!(lent.next().is_none());
    }

    #[test]
    fn no_bytes_make_walk_or_readers_panic(tail: Vec<u8>, which in 0u8..8, count in -2i32..5) {
        let mut bytes = raw_batch(&tail, count);
        bytes[ATTRIBUTES_AT + 1] = which;
        seal(&mut bytes);
        let walked = walk(&bytes, &rules(), &mut Scratch::new());
        let mut scratch = Scratch::new();
        for batch in batches(&bytes).flatten() {
            let mut read = batch.records(&InflateLimits::default(), &mut scratch);
            let mut seen = 0;
            while let Some(Some(Ok(_))) = read.as_mut().ok().map(|records| records.next()) {
                seen += 1;
            }
            prop_assert!(walked.is_err() || seen == count);
        }
    }
}
