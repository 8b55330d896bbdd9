//! What the output side prints, the input side reads back: any bytes, in each form.

use std::borrow::Cow;

use proptest::prelude::*;

use super::input::{Delimited, InputFormat, Splitter, Take};
use super::output::OutputFormat;
use super::{BatchFacts, InputHeader, InputRecord, LogFacts, RecordView, json};
use crate::record::{HeaderRef, TimestampType};

type Owned = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>, i64);

fn view(record: &Owned) -> RecordView<'_> {
    let (key, value, headers, timestamp_ms) = record;
    RecordView {
        topic: "t",
        partition: 0,
        offset: 0,
        timestamp_ms: *timestamp_ms,
        timestamp_type: TimestampType::CreateTime,
        key: key.as_deref(),
        value: value.as_deref(),
        headers: headers.iter().map(|(key, value)| HeaderRef { key, value: value.as_deref() }).collect(),
        batch: BatchFacts::default(),
        log: LogFacts::default(),
    }
}

fn same(read: &InputRecord<'_>, record: &Owned) -> bool {
    let (key, value, headers, timestamp_ms) = record;
    let headers = headers.iter().map(|(key, value)| InputHeader {
        key: Cow::Borrowed(key),
        value: value.as_deref().map(Cow::Borrowed),
    });
    read.key.as_deref() == key.as_deref()
        && read.value.as_deref() == value.as_deref()
        && read.headers.iter().cloned().eq(headers)
        && read.timestamp_ms == Some(*timestamp_ms)
}

fn records() -> impl Strategy<Value = Vec<Owned>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let headers = proptest::collection::vec((bytes(), proptest::option::of(bytes())), 0..4);
    let record = (proptest::option::of(bytes()), proptest::option::of(bytes()), headers, 0i64..1 << 42);
    proptest::collection::vec(record, 1..8)
}

/// Reads everything back and compares.
fn check(splitter: &Splitter, printed: &[u8], expected: &[Owned]) {
    let (mut at, mut found) = (0, 0);
    while at < printed.len() {
        match splitter.take(&printed[at..], true) {
            Take::Record(taken, read) => {
                assert!(same(&read, &expected[found]), "{read:?} is not {:?}", expected[found]);
                (at, found) = (at + taken, found + 1);
            }
            other => panic!("{other:?} at {at}"),
        }
    }
    assert_eq!(found, expected.len());
}

proptest! {
    #[test]
    fn json_reads_what_it_prints(records in records()) {
        let mut printed = Vec::new();
        records.iter().for_each(|record| json::write(&view(record), &mut printed));
        check(&Splitter::Json, &printed, &records);
    }

    #[test]
    fn format_strings_read_what_they_print(records in records(), which in 0usize..4) {
        let format = [
            "%T{big64}%K{big32}%k%V{big32}%v%H{big16}%h{%K{big16}%k%V{big32}%v}",
            "%T %K %k%V %v%H %h{%K %k%V %v};\n",
            "%T{hex64}%K{little32}%k{hex}%V{little32}%v{base64}%H{byte}%h{%K{byte}%k{base64raw}%V{big16}%v{hex}}",
            "%T,%K,%k{base64url},%V,%v{hex},%H:%h{%K{hex32}%k%V{hex32}%v}\n",
        ][which];
        let output = OutputFormat::compile(format, false).unwrap();
        let mut printed = Vec::new();
        for record in &records {
            output.write(&view(record), 0, &mut printed).unwrap();
        }
        check(&Splitter::Format(InputFormat::compile(format, false).unwrap()), &printed, &records);
    }

    #[test]
    fn no_input_makes_a_splitter_panic_or_stand_still(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        let splitters = [
            Splitter::Json,
            Splitter::Format(InputFormat::compile("%K{big16}%k%V{big16}%v%H{byte}%h{%K{byte}%k%V{byte}%v}", true).unwrap()),
            Splitter::Delimited(Box::new(Delimited::new(b"\x00\x01", Some(b"\x02"), true))),
        ];
        for splitter in &splitters {
            let mut at = 0;
            while at < bytes.len() {
                match splitter.take(&bytes[at..], true) {
                    Take::Record(0, _) | Take::Skip(0) => panic!("nothing was taken"),
                    Take::Record(taken, _) | Take::Skip(taken) => at += taken,
                    Take::Wrong(0, _) | Take::More => break,
                    Take::Wrong(taken, _) => at += taken,
                }
            }
        }
    }
}
