//! `klamm bench consume`: fetch as fast as the broker sends, look only at what tells the next offset, and
//! throw the rest away.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::{Bytes, BytesMut};

use super::Shared;
use super::report::{Report, histogram};
use super::run::{Lane, Meter, Plan, Taken, drive};
use super::setup::{EARLIEST, LATEST, Place, offset_at, places};
use super::template::set_correlation_id;
use super::wire::{Wire, decode, encode};
use crate::cli::output::Output;
use crate::client::{Address, BrokerError};
use crate::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use crate::protocol::{Records, frame};
use crate::record::{BATCH_HEADER_SIZE, BatchHeader, BatchRef};
use crate::types::{ByteSize, parse_duration};

/// The highest version of Fetch that names topics instead of counting on their ids.
const FETCH_VERSION_MAX: i16 = 12;
/// A fetch offset that is looked for in the encoded request, so that it can be patched there.
const OFFSET_MARK: i64 = 0x0123_4567_89ab_cdef;

/// Read as fast as the broker sends.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm bench consume events
  klamm bench consume events --repeat --duration 10s --warm-up 5s --pid \"$(pgrep -n klamm)\"
  klamm bench consume events -c 4 --max-bytes 4MiB --verify --json")]
pub struct Args {
    #[command(flatten)]
    pub(super) shared: Shared,

    /// Begin again at the end, until the duration is over
    #[arg(long)]
    repeat: bool,

    /// Ask for so many bytes of a partition at once
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    max_bytes: ByteSize,

    /// Let the broker wait until it has so many bytes
    #[arg(long, value_name = "SIZE", default_value = "1")]
    min_bytes: ByteSize,

    /// Let the broker wait for so long
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = parse_duration)]
    max_wait: Duration,

    /// Check the CRC of every batch
    #[arg(long)]
    verify: bool,
}

/// Prepares the lanes and drives them.
///
/// # Errors
/// Where the broker cannot be reached, refuses, or breaks off.
pub fn run(args: &Args, output: &mut Output) -> anyhow::Result<Report> {
    let places = places(&args.shared.connection(), &args.shared.topics)?;
    let connections = args.shared.connections;
    let limits = Limits {
        max_bytes: i32::try_from(args.max_bytes.0).context("--max-bytes is at most 2147483647")?,
        min_bytes: i32::try_from(args.min_bytes.0).context("--min-bytes is at most 2147483647")?,
        max_wait_ms: i32::try_from(args.max_wait.as_millis()).unwrap_or(i32::MAX),
    };
    let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
    for index in 0..connections {
        // With more connections than partitions, several read the same one.
        let own: Vec<&Place> = match places.len() > connections {
            true => places.iter().skip(index).step_by(connections).collect(),
            false => vec![&places[index % places.len()]],
        };
        let mut reader =
            Reader { wires: Vec::new(), sources: Vec::new(), verify: args.verify, repeat: args.repeat };
        for place in own {
            reader.add(place, &limits, args.shared.timeout)?;
        }
        lanes.push(Box::new(reader));
    }
    let duration = match (args.shared.duration, args.repeat) {
        (None, true) => Some(super::DURATION_DEFAULT),
        (duration, _) => duration,
    };
    drive("consume", &args.shared, duration, lanes, output)
}

/// What a fetch asks for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the partition at most.
    pub max_bytes: i32,
    /// Bytes that the broker waits for.
    pub min_bytes: i32,
    /// How long it waits for them.
    pub max_wait_ms: i32,
}

/// A fetch request for one partition, encoded beforehand.
#[derive(Debug)]
pub struct FetchTemplate {
    frame: Vec<u8>,
    offset_at: usize,
    version: i16,
    about: String,
    next_correlation_id: i32,
    /// Frames are read into this again and again: fresh memory would cost more than reading.
    buffer: BytesMut,
}

impl FetchTemplate {
    /// Encodes it in the highest version that both sides know.
    ///
    /// # Errors
    /// Where the broker is too old.
    pub fn new(wire: &Wire, place: &Place, limits: &Limits) -> anyhow::Result<Self> {
        let version = wire.version::<FetchRequest>(FETCH_VERSION_MAX)?;
        let request = FetchRequest {
            max_wait_ms: limits.max_wait_ms,
            min_bytes: limits.min_bytes,
            max_bytes: limits.max_bytes,
            topics: vec![FetchTopic {
                topic: place.topic.as_str().into(),
                partitions: vec![FetchPartition {
                    partition: place.partition,
                    fetch_offset: OFFSET_MARK,
                    partition_max_bytes: limits.max_bytes,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let frame =
            frame::join(&encode(&request, version, 0)?).context("a fetch request holds no records")?;
        let frame = frame.to_vec();
        let mark = OFFSET_MARK.to_be_bytes();
        let offset_at =
            frame.windows(8).position(|window| window == mark).context("no offset in the request")?;
        let about = format!("{}-{}", place.topic, place.partition);
        Ok(Self { frame, offset_at, version, about, next_correlation_id: 0, buffer: BytesMut::new() })
    }

    /// Fetches from `offset` on and gives the records to `look`.
    ///
    /// # Errors
    /// Where the broker refuses or breaks off, or what `look` finds.
    pub fn fetch<T>(
        &mut self,
        wire: &mut Wire,
        offset: i64,
        look: impl FnOnce(&[u8]) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let id = self.next_correlation_id;
        self.next_correlation_id = id.wrapping_add(1);
        set_correlation_id(&mut self.frame, id);
        self.frame[self.offset_at..self.offset_at + 8].copy_from_slice(&offset.to_be_bytes());
        wire.send(&self.frame)?;
        let size = wire.read_frame(&mut self.buffer)?;
        let whole = std::mem::take(&mut self.buffer).freeze();
        let found = self.read_answer(whole.slice(..size), id, look);
        // Nothing else holds the memory any more.
        self.buffer = whole.try_into_mut().unwrap_or_default();
        found
    }

    fn read_answer<T>(
        &self,
        answer: Bytes,
        id: i32,
        look: impl FnOnce(&[u8]) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let answer = decode::<FetchRequest>(answer, self.version, id)?;
        BrokerError::check(answer.error_code, || self.about.clone(), None)?;
        let partition = answer.responses.first().and_then(|topic| topic.partitions.first());
        let partition = partition.context("Fetch was answered with nothing")?;
        BrokerError::check(partition.error_code, || self.about.clone(), None)?;
        match &partition.records {
            Some(Records::Inline(records)) => look(records),
            _ => look(&[]),
        }
    }
}

/// One partition that a lane reads.
struct Source {
    wire: usize,
    fetch: FetchTemplate,
    begin: i64,
    end: i64,
    next: i64,
}

/// One connection (or one for each leader of its partitions) that reads them in turn.
struct Reader {
    wires: Vec<(Address, Wire)>,
    sources: Vec<Source>,
    verify: bool,
    repeat: bool,
}

impl Reader {
    fn add(&mut self, place: &Place, limits: &Limits, timeout: Duration) -> anyhow::Result<()> {
        let index = match self.wires.iter().position(|(address, _)| *address == place.address) {
            Some(index) => index,
            None => {
                self.wires.push((place.address.clone(), Wire::connect(&place.address, timeout)?));
                self.wires.len() - 1
            }
        };
        let wire = &mut self.wires[index].1;
        let begin = offset_at(wire, place, EARLIEST)?;
        let end = offset_at(wire, place, LATEST)?;
        let fetch = FetchTemplate::new(wire, place, limits)?;
        if begin < end {
            self.sources.push(Source { wire: index, fetch, begin, end, next: begin });
        }
        Ok(())
    }
}

impl Lane for Reader {
    fn run(&mut self, plan: &Plan, meter: &Meter) -> anyhow::Result<Taken> {
        let mut latency = histogram()?;
        let mut turn = 0;
        while !self.sources.is_empty() {
            let sent_at = Instant::now();
            if plan.is_over(sent_at) {
                break;
            }
            turn = (turn + 1) % self.sources.len();
            let source = &mut self.sources[turn];
            let wire = &mut self.wires[source.wire].1;
            let verify = self.verify;
            let passed = source.fetch.fetch(wire, source.next, |records| pass(records, verify))?;
            if meter.count(passed.records, passed.bytes) {
                latency.saturating_record(sent_at.elapsed().as_nanos() as u64);
            }
            source.next = passed.next_offset.unwrap_or(source.next);
            if source.next >= source.end {
                if self.repeat {
                    source.next = source.begin;
                } else {
                    self.sources.swap_remove(turn);
                }
            }
        }
        Ok(Taken { latency, end_to_end: None })
    }
}

/// What a fetch brought.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passed {
    records: u64,
    bytes: u64,
    next_offset: Option<i64>,
}

/// Steps over the whole batches of a fetch; a broker may cut the last one off.
fn pass(mut records: &[u8], verify: bool) -> anyhow::Result<Passed> {
    let mut passed = Passed::default();
    while records.len() >= BATCH_HEADER_SIZE {
        let header = BatchHeader::parse(records)?;
        let Some((batch, rest)) = records.split_at_checked(header.size()) else { break };
        if verify {
            BatchRef { header, bytes: batch }.check_crc()?;
        }
        passed.records += u64::try_from(header.record_count).unwrap_or(0);
        passed.bytes += batch.len() as u64;
        passed.next_offset = Some(header.next_offset().0);
        records = rest;
    }
    Ok(passed)
}
