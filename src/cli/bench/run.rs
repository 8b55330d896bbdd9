//! Drives prepared lanes, one thread each, and takes the time around them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;

use super::Shared;
use super::report::{Latencies, Report, Watch, histogram};
use crate::cli::output::Output;
use crate::types::ByteSize;

/// How often the progress bar is looked after.
const TICK: Duration = Duration::from_millis(100);

/// What lanes count together. Nothing is counted before the warm-up is over.
#[derive(Debug, Default)]
pub struct Meter {
    counting: AtomicBool,
    records: AtomicU64,
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl Meter {
    /// Whether the warm-up is over.
    pub fn is_counting(&self) -> bool {
        self.counting.load(Ordering::Relaxed)
    }

    /// Counts one answered request; says whether it was counted.
    pub fn count(&self, records: u64, bytes: u64) -> bool {
        if !self.counting.load(Ordering::Relaxed) {
            return false;
        }
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// When a run begins and ends.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// All lanes start from here.
    pub start: Instant,
    /// No request is begun after this.
    pub deadline: Option<Instant>,
}

impl Plan {
    /// Whether no further request shall begin.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }
}

/// What one lane brings home.
#[derive(Debug)]
pub struct Taken {
    /// From request to answer.
    pub latency: Histogram<u64>,
    /// From writer to reader.
    pub end_to_end: Option<Histogram<u64>>,
}

/// A connection that is ready to go.
pub trait Lane: Send {
    /// Works until the plan or its own quota ends.
    ///
    /// # Errors
    /// Where the broker refuses or breaks off.
    fn run(&mut self, plan: &Plan, meter: &Meter) -> anyhow::Result<Taken>;
}

/// Runs all lanes to their end.
///
/// # Errors
/// The first error of any lane.
pub fn drive(
    bench: &'static str,
    shared: &Shared,
    duration: Option<Duration>,
    mut lanes: Vec<Box<dyn Lane + '_>>,
    output: &mut Output,
) -> anyhow::Result<Report> {
    if let Some(size) = shared.warm_memory {
        touch(size);
    }
    let connections = lanes.len();
    let meter = Meter::default();
    // Without a warm-up the first answer counts, so that counting begins before the first request.
    let begun = match shared.warm_up.is_zero() {
        true => Some(Begun::now(shared, &meter)?),
        false => None,
    };
    let start = Instant::now();
    let plan = Plan { start, deadline: duration.map(|duration| start + shared.warm_up + duration) };
    let (ended, endings) = mpsc::channel();
    let measured = std::thread::scope(|scope| {
        for lane in &mut lanes {
            let (ended, plan, meter) = (ended.clone(), &plan, &meter);
            scope.spawn(move || {
                let taken = lane.run(plan, meter);
                // The receiver lives until every lane has ended.
                let _ = ended.send(taken);
            });
        }
        measure(shared, &plan, &meter, begun, (&endings, connections), output)
    })?;
    let bytes = meter.bytes.load(Ordering::Relaxed);
    let (processes, generator) = measured.watch.stop(bytes)?;
    Ok(Report {
        bench,
        topics: shared.topics.clone(),
        connections,
        records: meter.records.load(Ordering::Relaxed),
        bytes,
        requests: meter.requests.load(Ordering::Relaxed),
        seconds: measured.elapsed.as_secs_f64(),
        latency_us: Latencies::of(&measured.taken.latency),
        end_to_end_us: measured.taken.end_to_end.as_ref().and_then(Latencies::of),
        processes,
        generator,
    })
}

/// The moment from which everything counts.
struct Begun {
    at: Instant,
    watch: Watch,
}

impl Begun {
    fn now(shared: &Shared, meter: &Meter) -> anyhow::Result<Self> {
        let watch = Watch::start(&shared.pid)?;
        meter.counting.store(true, Ordering::Relaxed);
        Ok(Self { at: Instant::now(), watch })
    }
}

struct Measured {
    watch: Watch,
    elapsed: Duration,
    taken: Taken,
}

/// Waits out the warm-up, opens the meter, and collects what the lanes bring.
fn measure(
    shared: &Shared,
    plan: &Plan,
    meter: &Meter,
    begun: Option<Begun>,
    (endings, lanes): (&mpsc::Receiver<anyhow::Result<Taken>>, usize),
    output: &mut Output,
) -> anyhow::Result<Measured> {
    let mut taken = Taken { latency: histogram()?, end_to_end: None };
    let mut running = lanes;
    let warm_at = plan.start + shared.warm_up;
    while running > 0 && Instant::now() < warm_at {
        running -= collect(endings, warm_at.saturating_duration_since(Instant::now()), &mut taken)?;
    }
    let begun = match begun {
        Some(begun) => begun,
        None => Begun::now(shared, meter)?,
    };
    let whole = plan.deadline.map(|deadline| deadline.saturating_duration_since(begun.at));
    let bar = match whole {
        Some(whole) => output.progress(whole.as_millis() as u64, "milliseconds measured"),
        None => ProgressBar::hidden(),
    };
    while running > 0 {
        running -= collect(endings, TICK, &mut taken)?;
        bar.set_position(begun.at.elapsed().as_millis() as u64);
    }
    let elapsed = begun.at.elapsed();
    bar.finish_and_clear();
    Ok(Measured { watch: begun.watch, elapsed, taken })
}

/// Waits for one lane to end, for at most `wait`; returns how many did.
fn collect(
    endings: &mpsc::Receiver<anyhow::Result<Taken>>,
    wait: Duration,
    into: &mut Taken,
) -> anyhow::Result<usize> {
    let Ok(ending) = endings.recv_timeout(wait) else { return Ok(0) };
    let taken = ending?;
    into.latency.add(&taken.latency)?;
    if let Some(end_to_end) = taken.end_to_end {
        match &mut into.end_to_end {
            Some(sum) => sum.add(&end_to_end)?,
            None => into.end_to_end = Some(end_to_end),
        }
    }
    Ok(1)
}

/// Faults in `size` bytes and gives them back to the kernel.
fn touch(size: ByteSize) {
    const PAGE: usize = 4_096;
    let mut memory = vec![0u8; usize::try_from(size.0).unwrap_or(usize::MAX)];
    for page in memory.chunks_mut(PAGE) {
        page[0] = 1;
    }
    std::hint::black_box(&memory);
}
