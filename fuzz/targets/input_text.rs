//! What people type, pipe and keep in files: formats, records as JSON, delimited records, escapes, arguments,
//! server.properties, plans of reassignments, offsets of groups. The first byte picks which; up to the first zero byte follows the format,
//! then the input. What a format prints, the same format reads without a panic.
#![no_main]

use klamm::cli::args::parse_property;
use klamm::cli::format::input::{InputFormat, Splitter, Take};
use klamm::cli::format::output::OutputFormat;
use klamm::cli::format::{BatchFacts, InputRecord, LogFacts, RecordView, escape, json};
use klamm::cli::groups::read_offsets;
use klamm::cli::partitions::Partitions;
use klamm::cli::reassign::read_assignment;
use klamm::client::{Bootstrap, Partitioner};
use klamm::config::{BrokerConfig, Layers, properties};
use klamm::record::TimestampType;
use klamm::types::{ByteSize, TopicName, TopicPartition, Uuid, parse_duration, parse_time};
use libfuzzer_sys::fuzz_target;

/// One of each.
const SEEDS: [(u8, &str); 24] = [
    (0, "%k:%s\\n\0key:value\n"),
    (0, "%t[%p] %o %T{rfc3339} %k{hex} %v{base64}\\n\0a b"),
    (8, "%K{4}%k%V{4}%v\0\0\0\0\x01a\0\0\0\x01b"),
    (0, "%h{%k=%v,}|%s\\n\0a=b,|c\n"),
    (
        1,
        r#"{"topic":"t","partition":1,"offset":2,"timestamp":3,"key":"k","value":"v","headers":[{"key":"a","value":"b"}]}"#,
    ),
    (1, r#"{"key_base64":"AAE=","value_base64":"/w==","timestamp":"2026-01-01T00:00:00Z"}"#),
    (1, r#"{"payload":"p","ts":12,"headers":["a","b"]}"#),
    (2, r"\t\n\x00\u00e4\\"),
    (3, "0,2-4"),
    (3, "murmur2"),
    (3, "64MiB"),
    (3, "-15m"),
    (3, "2026-01-01T00:00:00Z"),
    (3, "localhost:9092,[::1]:9093"),
    (3, "linger.ms=5"),
    (3, "orders-0"),
    (4, "=\0key=value"),
    (
        5,
        r#"{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[1,2,3],"log_dirs":["any","any","any"]}]}"#,
    ),
    (6, "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@localhost:9093\n"),
    (
        6,
        "listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ncontroller.listener.names=CONTROLLER\nlog.dirs=/tmp/a,/tmp/b\n",
    ),
    (
        6,
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT\\\n  ,PLAINTEXT:PLAINTEXT\n# a comment\nlog.retention.hours=168\n",
    ),
    (6, "retention.ms\\u0031=5"),
    (7, "t,0,5\ng,t,1,6\n"),
    (7, r#"{"group":"g","topic":"t","partition":0,"offset":5,"leader_epoch":1,"metadata":"m"}"#),
];

fuzz_target!(init: klamm_fuzz::write_texts("input_text", &SEEDS), |data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let (format, input) = match rest.iter().position(|byte| *byte == 0) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &rest[..0]),
    };
    let Ok(format) = str::from_utf8(format) else { return };
    match kind % 8 {
        0 => formats(format, input, kind & 8 != 0),
        1 => {
            let _ = json::read(rest);
            take_all(&Splitter::Json, rest);
        }
        2 => drop(escape::unescape(format)),
        3 => arguments(format),
        4 => take_all(&Splitter::Whole { key_delimiter: Some(format.into()), empty_is_null: true }, input),
        5 => drop(read_assignment(format)),
        7 => drop(read_offsets(format, "g")),
        _ => {
            if let Ok(file) = properties::parse(format) {
                let _ = BrokerConfig::load(Layers { file, ..Layers::default() });
            }
        }
    }
});

fn formats(format: &str, input: &[u8], empty_is_null: bool) {
    let read = InputFormat::compile(format, empty_is_null).map(Splitter::Format);
    if let Ok(output) = OutputFormat::compile(format, empty_is_null) {
        let mut printed = Vec::new();
        let (key, value) = input.split_at(input.len() / 2);
        let record = record(Some(key).filter(|key| !key.is_empty()), Some(value));
        if output.write(&record, 0, &mut printed).is_ok()
            && let Ok(splitter) = &read
        {
            take_all(splitter, &printed);
        }
    }
    if let Ok(splitter) = &read {
        take_all(splitter, input);
    }
}

fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> RecordView<'a> {
    RecordView {
        topic: "t",
        partition: 1,
        offset: 2,
        timestamp_ms: 1_700_000_000_000,
        timestamp_type: TimestampType::CreateTime,
        key,
        value,
        headers: Vec::new(),
        batch: BatchFacts { leader_epoch: 3, producer_id: -1, producer_epoch: -1, attributes: 0 },
        log: LogFacts { log_start: 0, last_stable: 3, high_watermark: 3 },
    }
}

/// What stands behind options, in files of settings and in names.
fn arguments(text: &str) {
    let _ = (text.parse::<Partitions>(), text.parse::<Partitioner>());
    let _ = (text.parse::<ByteSize>(), parse_duration(text), parse_time(text, 1_700_000_000_000));
    let _ = (text.parse::<Uuid>(), Bootstrap::parse(text), parse_property(text));
    let _ = (TopicPartition::from_dir_name(text), TopicName::new(text));
}

/// Takes records until none is left.
fn take_all(splitter: &Splitter, mut input: &[u8]) {
    while !input.is_empty() {
        let taken = match splitter.take(input, true) {
            Take::Record(taken, InputRecord { .. }) | Take::Skip(taken) | Take::Wrong(taken, _) => taken,
            Take::More => return,
        };
        assert!(taken <= input.len(), "more is taken than there is");
        if taken == 0 {
            return;
        }
        input = &input[taken..];
    }
}
