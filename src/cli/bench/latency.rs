//! `klamm bench latency`: how long an answer takes. At a fixed rate the schedule is open: requests leave when
//! they are due, whether earlier ones are answered or not, and time runs from when a request was due. A
//! closed loop would hide a stall behind the requests that it kept from being sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::consume::{FetchTemplate, Limits};
use super::produce::{Prepared, Shape, parse_acks};
use super::report::{Report, histogram};
use super::run::{Lane, Meter, Plan, Taken, drive};
use super::setup::{LATEST, Place, offset_at, places};
use super::template::{next_sequence, seal, set_correlation_id};
use super::wire::Wire;
use super::{Shared, at_least_one};
use crate::cli::output::Output;
use crate::record::{BATCH_HEADER_SIZE, BatchHeader, Codec};
use crate::types::ByteSize;

/// Stamps are looked for in the encoded batch, so that they can be patched there.
const STAMP_BYTES: usize = 8;
/// The least that a value must hold for `--end-to-end`.
const STAMPED_VALUE_BYTES_MIN: u64 = STAMP_BYTES as u64;
/// How long readers wait for what was acknowledged.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Measure how long answers take, one at a time or at a fixed rate.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm bench latency events
  klamm bench latency events --rate 1000 -t 30s
  klamm bench latency events --rate 200 -c 4 --end-to-end --json")]
pub struct Args {
    #[command(flatten)]
    pub(super) shared: Shared,

    /// Requests a second over all connections, sent when they are due; without it, one after the other
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    rate: Option<usize>,

    /// Also measure how long a record takes to a reader that waits for it
    #[arg(long)]
    end_to_end: bool,

    /// Records in a batch; a request holds one batch
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    batch: usize,

    /// Bytes in a record's value
    #[arg(short = 's', long, value_name = "SIZE", default_value = "100")]
    record_size: ByteSize,

    /// Whose word counts: 1 the leader's, all every replica in sync
    #[arg(short, long, value_name = "1|all", default_value = "all", value_parser = parse_answering_acks)]
    acks: i16,

    /// Send as an idempotent producer
    #[arg(long)]
    idempotent: bool,
}

fn parse_answering_acks(text: &str) -> Result<i16, String> {
    match parse_acks(text) {
        Ok(0) | Err(_) => Err("1 or all is expected: with 0 there is no answer to wait for".to_owned()),
        acks => acks,
    }
}

/// Prepares the lanes and drives them.
///
/// # Errors
/// Where the broker cannot be reached, refuses, or breaks off.
pub fn run(args: &Args, output: &mut Output) -> anyhow::Result<Report> {
    if args.end_to_end && args.record_size.0 < STAMPED_VALUE_BYTES_MIN {
        return Err(crate::cli::exit::usage(format!(
            "--end-to-end writes the time into each record: '--record-size' must be at least {STAMPED_VALUE_BYTES_MIN}"
        )));
    }
    let places = places(&args.shared.connection(), &args.shared.topics)?;
    let connections = args.shared.connections;
    let origin = Instant::now();
    let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
    let mut acknowledged = Vec::new();
    for place in &places {
        // Readers begin at the end, so before the first batch is sent.
        let count = Arc::new(Arrivals::default());
        if args.end_to_end && acknowledged.len() < connections {
            let timeout = args.shared.timeout;
            lanes.push(Box::new(Tail::prepare(place, Arc::clone(&count), origin, timeout)?));
        }
        acknowledged.push(count);
    }
    for index in 0..connections {
        let at = index % places.len();
        let pace = args.rate.map(|rate| {
            let interval = Duration::from_secs_f64(connections as f64 / rate as f64);
            Pace { interval, phase: interval.mul_f64(index as f64 / connections as f64) }
        });
        lanes.push(Box::new(Sender::prepare(
            args,
            &places[at],
            pace,
            Arc::clone(&acknowledged[at]),
            origin,
        )?));
    }
    for (index, count) in acknowledged.iter().enumerate() {
        let writers = (0..connections).filter(|lane| lane % places.len() == index).count();
        count.writers.store(writers as u64, Ordering::SeqCst);
    }
    let duration = args.shared.duration.or(Some(super::DURATION_DEFAULT));
    let mut report = drive("latency", &args.shared, duration, lanes, output)?;
    report.connections = connections;
    Ok(report)
}

/// What writers tell the reader of their partition.
#[derive(Debug, Default)]
struct Arrivals {
    /// Batches acknowledged.
    acknowledged: AtomicU64,
    /// Writers that may still send.
    writers: AtomicU64,
    /// How long a batch is and where its stamp stands; 0 until the first writer is prepared.
    batch_bytes: AtomicU64,
    stamp_at: AtomicU64,
}

/// When the requests of a lane are due.
#[derive(Debug, Clone, Copy)]
struct Pace {
    interval: Duration,
    /// So that the lanes do not send at the same instants.
    phase: Duration,
}

/// One connection that sends on schedule, or when it is answered.
struct Sender {
    prepared: Prepared,
    pace: Option<Pace>,
    arrivals: Arc<Arrivals>,
    stamp_at: Option<usize>,
    origin: Instant,
    sent: u64,
    sequence: i32,
}

impl Sender {
    fn prepare(
        args: &Args,
        place: &Place,
        pace: Option<Pace>,
        arrivals: Arc<Arrivals>,
        origin: Instant,
    ) -> anyhow::Result<Self> {
        let shape = Shape {
            records: args.batch,
            key_bytes: 0,
            value_bytes: usize::try_from(args.record_size.0)?,
            codec: Codec::None,
            acks: args.acks,
            idempotent: args.idempotent,
        };
        let prepared = Prepared::new(&shape, place, args.shared.timeout)?;
        let template = &prepared.template;
        // The last value ends one byte before the batch does: no headers follow it but their count.
        let stamp_at = template.batch_bytes - 1 - shape.value_bytes;
        if args.end_to_end {
            arrivals.batch_bytes.store(template.batch_bytes as u64, Ordering::SeqCst);
            arrivals.stamp_at.store(stamp_at as u64, Ordering::SeqCst);
        }
        let stamp_at = args.end_to_end.then_some(stamp_at);
        Ok(Self { prepared, pace, arrivals, stamp_at, origin, sent: 0, sequence: 0 })
    }

    fn send(&mut self, due: Instant) -> anyhow::Result<()> {
        let template = &mut self.prepared.template;
        set_correlation_id(&mut template.frame, self.sent as i32);
        let batch = &mut template.frame[template.batch_at..][..template.batch_bytes];
        if let Some(at) = self.stamp_at {
            let stamp = due.saturating_duration_since(self.origin).as_nanos() as u64;
            batch[at..at + STAMP_BYTES].copy_from_slice(&stamp.to_be_bytes());
            seal(batch);
        }
        if let Some(patch) = &self.prepared.sequence_patch {
            patch.set(batch, self.sequence);
            self.sequence = next_sequence(self.sequence, template.records);
        }
        self.sent += 1;
        self.prepared.wire.send(&template.frame)
    }

    fn work(&mut self, plan: &Plan, meter: &Meter) -> anyhow::Result<Taken> {
        let mut latency = histogram()?;
        let mut unanswered: VecDeque<Instant> = VecDeque::new();
        let mut answered = 0u64;
        let mut due = plan.start + self.pace.map_or(Duration::ZERO, |pace| pace.phase);
        loop {
            self.send_what_is_due(plan, &mut due, &mut unanswered)?;
            if unanswered.is_empty() && plan.is_over(due.max(Instant::now())) {
                return Ok(Taken { latency, end_to_end: None });
            }
            // Where nothing more will be due, reading itself waits, up to the socket's timeout.
            let more_is_due = self.pace.is_some() && !plan.is_over(due);
            let wait = due.saturating_duration_since(Instant::now());
            if more_is_due && !self.prepared.wire.wait_readable(wait)? {
                continue;
            }
            self.prepared.answers.fill(&mut self.prepared.wire)?;
            let now = Instant::now();
            while !unanswered.is_empty() && self.prepared.answers.next(answered as i32)?.is_some() {
                answered += 1;
                self.arrivals.acknowledged.fetch_add(1, Ordering::SeqCst);
                let Some(was_due) = unanswered.pop_front() else { break };
                let template = &self.prepared.template;
                if meter.count(u64::from(template.records), template.batch_bytes as u64) {
                    latency.saturating_record((now - was_due).as_nanos() as u64);
                }
            }
        }
    }

    /// On schedule everything that is due by now; without one the next request, when the last is answered.
    fn send_what_is_due(
        &mut self,
        plan: &Plan,
        due: &mut Instant,
        unanswered: &mut VecDeque<Instant>,
    ) -> anyhow::Result<()> {
        let now = Instant::now();
        let Some(pace) = self.pace else {
            if unanswered.is_empty() && !plan.is_over(now) {
                self.send(now)?;
                unanswered.push_back(now);
            }
            return Ok(());
        };
        while *due <= now && !plan.is_over(*due) {
            self.send(*due)?;
            unanswered.push_back(*due);
            *due += pace.interval;
        }
        Ok(())
    }
}

impl Lane for Sender {
    fn run(&mut self, plan: &Plan, meter: &Meter) -> anyhow::Result<Taken> {
        // Without this the kernel may wake a schedule 50 µs late.
        let _ = nix::sys::prctl::set_timerslack(1);
        let taken = self.work(plan, meter);
        self.arrivals.writers.fetch_sub(1, Ordering::SeqCst);
        taken
    }
}

/// One connection that waits at a partition's end for stamped batches.
struct Tail {
    wire: Wire,
    fetch: FetchTemplate,
    next: i64,
    arrivals: Arc<Arrivals>,
    origin: Instant,
}

impl Tail {
    fn prepare(
        place: &Place,
        arrivals: Arc<Arrivals>,
        origin: Instant,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let mut wire = Wire::connect(&place.address, timeout)?;
        let next = offset_at(&mut wire, place, LATEST)?;
        let limits = Limits { max_bytes: 1 << 20, min_bytes: 1, max_wait_ms: 100 };
        let fetch = FetchTemplate::new(&wire, place, &limits)?;
        Ok(Self { wire, fetch, next, arrivals, origin })
    }
}

impl Lane for Tail {
    fn run(&mut self, plan: &Plan, meter: &Meter) -> anyhow::Result<Taken> {
        let mut end_to_end = histogram()?;
        let batch_bytes = self.arrivals.batch_bytes.load(Ordering::SeqCst) as usize;
        let stamp_at = self.arrivals.stamp_at.load(Ordering::SeqCst) as usize;
        let mut arrived = 0u64;
        loop {
            let all_sent = self.arrivals.writers.load(Ordering::SeqCst) == 0;
            if all_sent && arrived >= self.arrivals.acknowledged.load(Ordering::SeqCst) {
                return Ok(Taken { latency: histogram()?, end_to_end: Some(end_to_end) });
            }
            let stamps = self.fetch.fetch(&mut self.wire, self.next, |records| {
                stamps(records, batch_bytes, stamp_at, &mut self.next)
            })?;
            let now = self.origin.elapsed().as_nanos() as u64;
            arrived += stamps.len() as u64;
            if meter.is_counting() {
                for stamp in stamps {
                    end_to_end.saturating_record(now.saturating_sub(stamp).max(1));
                }
            }
            let late = plan.deadline.is_some_and(|deadline| deadline.elapsed() > ARRIVAL_TIMEOUT);
            anyhow::ensure!(!late, "acknowledged records do not arrive at the reader");
        }
    }
}

/// The stamps of the batches that are ours, by their length; `next` moves behind what was read.
fn stamps(
    mut records: &[u8],
    batch_bytes: usize,
    stamp_at: usize,
    next: &mut i64,
) -> anyhow::Result<Vec<u64>> {
    let mut stamps = Vec::new();
    while records.len() >= BATCH_HEADER_SIZE {
        let header = BatchHeader::parse(records)?;
        let Some((batch, rest)) = records.split_at_checked(header.size()) else { break };
        if batch.len() == batch_bytes {
            let stamp = batch.get(stamp_at..).and_then(|rest| rest.first_chunk::<STAMP_BYTES>());
            stamps.push(u64::from_be_bytes(*stamp.context("a batch is too short for its stamp")?));
        }
        *next = header.next_offset().0;
        records = rest;
    }
    Ok(stamps)
}
