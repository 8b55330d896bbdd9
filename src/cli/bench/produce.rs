//! `klamm bench produce`: the same batch, over and over, `--depth` requests under way on each connection.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;

use super::report::{Report, histogram};
use super::run::{Lane, Meter, Plan, Taken, drive};
use super::setup::{Place, pause, places};
use super::template::{SequencePatch, Template, next_sequence, set_correlation_id};
use super::wire::{Wire, decode, encode, frame_size};
use super::{Shared, at_least_one};
use crate::cli::output::Output;
use crate::client::BrokerError;
use crate::protocol::messages::init_producer_id_request::InitProducerIdRequest;
use crate::protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::protocol::{EncodedPiece, ErrorCode, Records};
use crate::record::{BatchBuilder, Codec, Compression, ProducerState};
use crate::types::{ByteSize, Clock, ProducerEpoch, ProducerId, SystemClock};

/// The highest version of Produce that names topics instead of counting on their ids.
const PRODUCE_VERSION_MAX: i16 = 12;
/// From here on Produce's headers and bodies are of the flexible kind.
const PRODUCE_FLEXIBLE_FROM: i16 = 9;

/// Send batches as fast as the broker takes them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm bench produce events --batch 128 --record-size 100 --depth 8
  klamm bench produce events --batch 900 --record-size 1kB -c 4 --pid \"$(pgrep -n klamm)\"
  klamm bench produce events --batch 1 --depth 8 --idempotent -n 1000000 --json")]
pub struct Args {
    #[command(flatten)]
    pub(super) shared: Shared,

    /// End after so many records over all connections, rounded up to whole batches
    #[arg(short = 'n', long, value_name = "N", conflicts_with_all = ["duration", "warm_up"])]
    records: Option<u64>,

    /// Records in a batch; a request holds one batch
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = at_least_one)]
    batch: usize,

    /// Bytes in a record's value
    #[arg(short = 's', long, value_name = "SIZE", default_value = "100")]
    record_size: ByteSize,

    /// Bytes in a record's key; 0 is no key
    #[arg(long, value_name = "SIZE", default_value = "0")]
    key_size: ByteSize,

    /// Requests under way on each connection
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    depth: usize,

    /// Compress batches: none, gzip, snappy, lz4, zstd (once, beforehand)
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none", value_parser = parse_codec)]
    compression: Codec,

    /// Whose word counts: 0 nobody's, 1 the leader's, all every replica in sync
    #[arg(short, long, value_name = "0|1|all", default_value = "all", value_parser = parse_acks)]
    acks: i16,

    /// Send as an idempotent producer: the broker checks every batch's sequence
    #[arg(long)]
    idempotent: bool,
}

pub(super) fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "all" | "-1" => Ok(-1),
        _ => Err("0, 1 or all is expected".to_owned()),
    }
}

fn parse_codec(text: &str) -> Result<Codec, String> {
    Codec::from_name(text).ok_or_else(|| "none, gzip, snappy, lz4 or zstd is expected".to_owned())
}

/// Prepares the lanes and drives them.
///
/// # Errors
/// Where the broker cannot be reached, refuses, or breaks off.
pub fn run(args: &Args, output: &mut Output) -> anyhow::Result<Report> {
    let places = places(&args.shared.connection(), &args.shared.topics)?;
    let connections = args.shared.connections;
    let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
    for index in 0..connections {
        let place = &places[index % places.len()];
        let quota = args.records.map(|records| {
            // The first lanes take what does not divide evenly.
            let requests = records.div_ceil(args.batch as u64);
            requests / connections as u64 + u64::from((index as u64) < requests % connections as u64)
        });
        lanes.push(Box::new(Writer::prepare(args, place, quota)?));
    }
    let duration = match (args.shared.duration, args.records) {
        (None, None) => Some(super::DURATION_DEFAULT),
        (duration, _) => duration,
    };
    drive("produce", &args.shared, duration, lanes, output)
}

/// What every writer of batches is made from.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Records in a batch.
    pub records: usize,
    /// Bytes in a key; 0 is no key.
    pub key_bytes: usize,
    /// Bytes in a value.
    pub value_bytes: usize,
    /// The codec.
    pub codec: Codec,
    /// 0, 1 or -1.
    pub acks: i16,
    /// Whether the producer has an id.
    pub idempotent: bool,
}

/// A connection with its request encoded for one partition.
#[derive(Debug)]
pub struct Prepared {
    /// The socket.
    pub wire: Wire,
    /// The request.
    pub template: Template,
    /// Present for an idempotent producer.
    pub sequence_patch: Option<SequencePatch>,
    /// How to read the answers.
    pub answers: Answers,
}

impl Prepared {
    /// Connects to the partition's leader and encodes the batch.
    ///
    /// # Errors
    /// Where the broker cannot be reached, or is too old.
    pub fn new(shape: &Shape, place: &Place, timeout: Duration) -> anyhow::Result<Self> {
        let mut wire = Wire::connect(&place.address, timeout)?;
        let version = wire.version::<ProduceRequest>(PRODUCE_VERSION_MAX)?;
        let producer =
            if shape.idempotent { producer_state(&mut wire, timeout)? } else { ProducerState::NONE };
        let batch = batch(shape, producer)?;
        let pieces = encode(&request(shape, place, batch.len()), version, 0)?;
        let template = around(&pieces, &batch, shape.records)?;
        let sequence_patch = shape.idempotent.then(|| template.sequence_patch());
        let answers = Answers::new(version, place);
        Ok(Self { wire, template, sequence_patch, answers })
    }
}

/// Asks for a producer id; a broker that has just started may need a moment.
fn producer_state(wire: &mut Wire, timeout: Duration) -> anyhow::Result<ProducerState> {
    let begun = Instant::now();
    loop {
        let answer = wire.call(&InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        })?;
        if ErrorCode::from_wire(answer.error_code).is_retriable() && begun.elapsed() < timeout {
            pause();
            continue;
        }
        BrokerError::check(answer.error_code, || "InitProducerId".to_owned(), None)?;
        return Ok(ProducerState {
            id: ProducerId(answer.producer_id),
            epoch: ProducerEpoch(answer.producer_epoch),
            base_sequence: 0,
            is_transactional: false,
        });
    }
}

/// A batch of random text: what compresses like text compresses.
fn batch(shape: &Shape, producer: ProducerState) -> anyhow::Result<Bytes> {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut text = |length: usize| -> Vec<u8> {
        (0..length)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                b'a' + (random % 26) as u8
            })
            .collect()
    };
    let now_ms = SystemClock::new().now_ms();
    let mut builder = BatchBuilder::new(Compression::new(shape.codec)).by(producer);
    for _ in 0..shape.records {
        let key = (shape.key_bytes > 0).then(|| text(shape.key_bytes));
        let value = text(shape.value_bytes);
        builder.append(now_ms, key.as_deref(), Some(&value), []);
    }
    Ok(builder.build()?)
}

fn request(shape: &Shape, place: &Place, batch_bytes: usize) -> ProduceRequest {
    ProduceRequest {
        acks: shape.acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: place.topic.as_str().into(),
            partition_data: vec![PartitionProduceData {
                index: place.partition,
                records: Some(Records::Outside { len: batch_bytes }),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The encoded pieces with the batch in their one gap.
fn around(pieces: &[EncodedPiece], batch: &[u8], records: usize) -> anyhow::Result<Template> {
    let mut before = Vec::new();
    let mut after = Vec::new();
    let mut gap = false;
    for piece in pieces {
        match piece {
            EncodedPiece::Gap { len } if *len == batch.len() && !gap => gap = true,
            EncodedPiece::Gap { .. } => bail!("the request has a gap that is not its batch"),
            EncodedPiece::Bytes(bytes) if gap => after.push(bytes.clone()),
            EncodedPiece::Bytes(bytes) => before.push(bytes.clone()),
        }
    }
    Ok(Template::new(&before, batch, &after, u32::try_from(records).context("too many records in a batch")?))
}

/// Reads the answers to requests that hold one partition: all that differs between good ones stands at
/// known places.
#[derive(Debug)]
pub struct Answers {
    version: i16,
    about: String,
    error_at: usize,
    buffer: Vec<u8>,
    filled: usize,
    taken: usize,
}

impl Answers {
    fn new(version: i16, place: &Place) -> Self {
        let name = place.topic.len();
        // correlation id, [tags], topics, name, partitions, index, error code
        let error_at = if version >= PRODUCE_FLEXIBLE_FROM {
            4 + 1 + 1 + (if name + 1 < 128 { 1 } else { 2 }) + name + 1 + 4
        } else {
            4 + 4 + 2 + name + 4 + 4
        };
        let about = format!("{}-{}", place.topic, place.partition);
        Self { version, about, error_at, buffer: vec![0; 64 << 10], filled: 0, taken: 0 }
    }

    /// Reads what is there, at least one byte.
    ///
    /// # Errors
    /// Where the socket breaks.
    pub fn fill(&mut self, wire: &mut Wire) -> anyhow::Result<()> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        self.filled += wire.read_some(&mut self.buffer[self.filled..])?;
        Ok(())
    }

    /// Takes the next whole answer, which must be a good one to request `correlation_id`.
    ///
    /// # Errors
    /// Where it is not.
    pub fn next(&mut self, correlation_id: i32) -> anyhow::Result<Option<()>> {
        let rest = &self.buffer[self.taken..self.filled];
        let Some((size, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let Some(answer) = rest.get(..frame_size(*size)?) else { return Ok(None) };
        self.taken += 4 + answer.len();
        let id = answer.first_chunk::<4>();
        let error = answer.get(self.error_at..self.error_at + 2);
        if id == Some(&correlation_id.to_be_bytes()) && error == Some(&[0, 0]) {
            return Ok(Some(()));
        }
        self.refusal(Bytes::copy_from_slice(answer), correlation_id).map(|()| None)
    }

    /// Says in words what an answer refuses.
    fn refusal(&self, answer: Bytes, correlation_id: i32) -> anyhow::Result<()> {
        let answer = decode::<ProduceRequest>(answer, self.version, correlation_id)?;
        let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        let partition = partition.context("Produce was answered with nothing")?;
        let message = partition.error_message.as_deref();
        BrokerError::check(partition.error_code, || self.about.clone(), message)?;
        bail!("{}: {} where a refusal was expected", self.about, ErrorCode::None.name())
    }
}

/// One connection that sends as fast as it is answered.
struct Writer {
    prepared: Prepared,
    acks: i16,
    depth: usize,
    quota: Option<u64>,
}

impl Writer {
    fn prepare(args: &Args, place: &Place, quota: Option<u64>) -> anyhow::Result<Self> {
        let shape = Shape {
            records: args.batch,
            key_bytes: usize::try_from(args.key_size.0)?,
            value_bytes: usize::try_from(args.record_size.0)?,
            codec: args.compression,
            acks: args.acks,
            idempotent: args.idempotent,
        };
        let prepared = Prepared::new(&shape, place, args.shared.timeout)?;
        Ok(Self { prepared, acks: args.acks, depth: args.depth, quota })
    }
}

/// `depth` copies of the frame in one piece of memory, so that several requests leave in one write.
struct Ring {
    frames: Vec<u8>,
    sent_at: Vec<Instant>,
    /// Requests ever sent and ever answered: their difference is under way.
    sent: u64,
    answered: u64,
    sequence: i32,
}

impl Lane for Writer {
    fn run(&mut self, plan: &Plan, meter: &Meter) -> anyhow::Result<Taken> {
        let mut latency = histogram()?;
        let template = &self.prepared.template;
        let (records, bytes) = (u64::from(template.records), template.batch_bytes as u64);
        let mut ring = Ring {
            frames: template.frame.repeat(self.depth),
            sent_at: vec![plan.start; self.depth],
            sent: 0,
            answered: 0,
            sequence: 0,
        };
        loop {
            let now = Instant::now();
            if !plan.is_over(now) {
                self.fill(&mut ring, now)?;
            }
            if ring.sent == ring.answered {
                return Ok(Taken { latency, end_to_end: None });
            }
            if self.acks == 0 {
                while ring.answered < ring.sent {
                    meter.count(records, bytes);
                    ring.answered += 1;
                }
                continue;
            }
            self.prepared.answers.fill(&mut self.prepared.wire)?;
            let now = Instant::now();
            while ring.answered < ring.sent && self.prepared.answers.next(ring.answered as i32)?.is_some() {
                let slot = (ring.answered % self.depth as u64) as usize;
                ring.answered += 1;
                if meter.count(records, bytes) {
                    latency.saturating_record((now - ring.sent_at[slot]).as_nanos() as u64);
                }
            }
        }
    }
}

impl Writer {
    /// Sends until `depth` requests are under way or the quota is used up, in as few writes as the ring allows.
    fn fill(&mut self, ring: &mut Ring, now: Instant) -> anyhow::Result<()> {
        let depth = self.depth as u64;
        let size = self.prepared.template.frame.len();
        loop {
            let under_way = ring.sent - ring.answered;
            let slot = ring.sent % depth;
            let left = self.quota.map_or(u64::MAX, |quota| quota - ring.sent);
            let run = (depth - under_way).min(depth - slot).min(left);
            if run == 0 {
                return Ok(());
            }
            for index in slot..slot + run {
                let frame = &mut ring.frames[index as usize * size..][..size];
                set_correlation_id(frame, ring.sent as i32);
                if let Some(patch) = &self.prepared.sequence_patch {
                    let template = &self.prepared.template;
                    patch.set(&mut frame[template.batch_at..][..template.batch_bytes], ring.sequence);
                    ring.sequence = next_sequence(ring.sequence, template.records);
                }
                ring.sent_at[index as usize] = now;
                ring.sent += 1;
            }
            let bytes = slot as usize * size..(slot + run) as usize * size;
            self.prepared.wire.send(&ring.frames[bytes])?;
        }
    }
}
