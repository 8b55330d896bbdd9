//! What a produced batch costs before it is appended, and what making and reading one costs.
//!
//! `cargo bench --bench record`. Two shapes throughout: 128 records of 100 B, as many small producers send, and
//! 900 of 1 KB, as a bulk load sends. Bytes per second count the batch without compression.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use klamm::record::{
    BatchBuilder, BatchRef, Codec, Compression, Compressor, InflateLimits, Scratch, WalkRules,
    inflate_to_vec, walk,
};

fn main() {
    divan::main();
}

/// A codec and a shape; prints as one argument of a benchmark.
#[derive(Clone, Copy)]
struct Case {
    codec: Codec,
    count: usize,
    value_size: usize,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} x {} B", self.codec, self.count, self.value_size)
    }
}

fn plain_cases() -> Vec<Case> {
    [(1, 100), (128, 100), (900, 1_000)]
        .map(|(count, value_size)| Case { codec: Codec::None, count, value_size })
        .to_vec()
}

fn cases() -> Vec<Case> {
    Codec::ALL
        .into_iter()
        .flat_map(|codec| plain_cases().into_iter().map(move |case| Case { codec, ..case }))
        .collect()
}

fn packed_codecs() -> Vec<Codec> {
    Codec::ALL[1..].to_vec()
}

const NOW_MS: i64 = 1_700_000_000_000;

/// Half noise, half text: what compresses to a bit more than half.
fn value(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u64 | 1;
    (0..len)
        .map(|at| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if at % 32 < 16 { (state >> 33) as u8 } else { b"the quick brown "[at % 16] }
        })
        .collect()
}

fn batch(case: Case) -> Vec<u8> {
    let mut builder = BatchBuilder::new(case.codec.into());
    for index in 0..case.count {
        builder.append(NOW_MS + index as i64 / 10, None, Some(&value(index, case.value_size)), []);
    }
    builder.build().unwrap().to_vec()
}

fn plain_size(case: Case) -> BytesCount {
    BytesCount::new(batch(Case { codec: Codec::None, ..case }).len())
}

fn rules() -> WalkRules {
    WalkRules { now_ms: NOW_MS, ..WalkRules::default() }
}

#[divan::bench(args = plain_cases())]
fn crc(bencher: Bencher<'_, '_>, case: Case) {
    let bytes = batch(case);
    let batch = BatchRef::first(&bytes).unwrap();
    bencher.counter(plain_size(case)).bench(|| black_box(batch).check_crc());
}

#[divan::bench(args = cases())]
fn walk_batch(bencher: Bencher<'_, '_>, case: Case) {
    let bytes = batch(case);
    let mut scratch = Scratch::new();
    bencher
        .counter(plain_size(case))
        .bench_local(|| walk(black_box(&bytes), &rules(), &mut scratch).unwrap());
}

#[divan::bench(args = cases())]
fn read_records(bencher: Bencher<'_, '_>, case: Case) {
    let bytes = batch(case);
    let mut scratch = Scratch::new();
    bencher.counter(plain_size(case)).bench_local(|| {
        let batch = BatchRef::first(black_box(&bytes)).unwrap();
        let mut records = batch.records(&InflateLimits::default(), &mut scratch).unwrap();
        let mut size = 0;
        while let Some(record) = records.next() {
            size += record.unwrap().value.map_or(0, <[u8]>::len);
        }
        size
    });
}

#[divan::bench(args = cases())]
fn build(bencher: Bencher<'_, '_>, case: Case) {
    let values: Vec<Vec<u8>> = (0..case.count).map(|index| value(index, case.value_size)).collect();
    let mut builder = BatchBuilder::new(case.codec.into());
    let mut out = Vec::new();
    bencher.counter(plain_size(case)).bench_local(|| {
        for value in &values {
            builder.append(NOW_MS, None, Some(value), []);
        }
        out.clear();
        builder.build_into(&mut out).unwrap();
        out.len()
    });
}

#[divan::bench(args = packed_codecs())]
fn compress(bencher: Bencher<'_, '_>, codec: Codec) {
    let input = value(7, 64 << 10);
    let mut compressor = Compressor::new(Compression::new(codec));
    let mut out = Vec::new();
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        out.clear();
        compressor.compress_into(black_box(&input), &mut out).unwrap();
        out.len()
    });
}

#[divan::bench(args = packed_codecs())]
fn inflate(bencher: Bencher<'_, '_>, codec: Codec) {
    let input = value(7, 64 << 10);
    let mut packed = Vec::new();
    Compressor::new(codec.into()).compress_into(&input, &mut packed).unwrap();
    let mut scratch = Scratch::new();
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        inflate_to_vec(codec, &packed, &InflateLimits::default(), &mut scratch).unwrap().len()
    });
}
