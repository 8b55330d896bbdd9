//! What a consumer reads from brokers and from other members, which it should not trust: batches of a fetch, with
//! checksums that are right, and the bytes in which members of a classic group tell each other what they want and get.
//! The first byte picks which.
#![no_main]

use std::ops::ControlFlow;

use bytes::Bytes;
use klamm::client::{Fetched, Reading, read_assignment, read_subscribed_topics};
use klamm::record::BatchError;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: klamm_fuzz::write_batch_seeds("fetched", |batch| Some([&[1], batch].concat())),
    |data: &[u8]| {
        let Some((kind, rest)) = data.split_first() else { return };
        if kind % 4 == 0 {
            let _ = read_assignment(Bytes::copy_from_slice(rest));
            let _ = read_subscribed_topics(Bytes::copy_from_slice(rest));
            return;
        }
        let mut log = rest.to_vec();
        klamm_fuzz::seal(&mut log);
        let from = i64::from(kind >> 4);
        let fetched = Fetched {
            topic: "t".into(),
            partition: 0,
            from,
            end: i64::MAX,
            batches: log.into(),
            log_start: 0,
            last_stable: i64::MAX,
            high_watermark: i64::MAX,
            aborted: vec![(0, 0), (1, 4)],
        };
        let (next, _) = fetched.next_position();
        assert!(next >= from, "reading goes back");
        for shows_control in [false, true] {
            let mut reading = Reading::default();
            reading.shows_control = shows_control;
            let read = fetched.read(&mut reading, |_, record| {
                assert!(record.offset.0 >= from, "a record that was read before");
                Ok::<_, (i64, BatchError)>(ControlFlow::Continue(()))
            });
            let _ = read;
        }
    }
);
