//! From input to producer: one thread that reads, cuts and appends, and looks after deliveries, pauses and
//! interrupts between blocks.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::ProgressBar;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};

use crate::cli::audit::Tally;
use crate::cli::exit::{Exit, interrupted};
use crate::cli::format::InputRecord;
use crate::cli::format::input::{Resume, Splitter, Take};
use crate::cli::output::Output;
use crate::client::{Cluster, Delivery, NewRecord, Producer, ProducerOptions, TopicHandle};
use crate::record::HeaderRef;
use crate::types::Clock;

use super::bell::Bell;
use super::report::Reporter;
use super::source::{Source, Wake};

/// What a record may take beside key and value, roughly: an input that is larger than the largest request and
/// this cannot be one record.
const OVERHEAD_BYTES: usize = 64 << 10;

/// What is to be sent, and how.
pub(super) struct Feed {
    pub(super) splitter: Splitter,
    pub(super) files: Vec<PathBuf>,
    /// The topic of all records; `None` takes each record's own.
    pub(super) topic: Option<String>,
    pub(super) fixed: Fixed,
    pub(super) is_report: bool,
    pub(super) is_json: bool,
    pub(super) is_tee: bool,
    pub(super) count_max: u64,
}

/// What the command line says of every record.
pub(super) struct Fixed {
    pub(super) key: Option<Vec<u8>>,
    pub(super) partition: Option<i32>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) keeps_partition: bool,
}

/// Counts SIGINTs: the first ends the input, the second the wait for acknowledgements.
#[derive(Default)]
struct Interrupt {
    count: AtomicUsize,
    came: Notify,
}

impl Interrupt {
    /// Listens for SIGINT from now on, and rings.
    fn listen(runtime: &Runtime, bell: &Arc<Bell>) -> Arc<Self> {
        let interrupt = Arc::<Self>::default();
        let (listening, bell) = (Arc::clone(&interrupt), Arc::clone(bell));
        runtime.spawn(async move {
            while interrupted().await.is_ok() {
                listening.count.fetch_add(1, Ordering::Relaxed);
                listening.came.notify_one();
                bell.ring();
            }
        });
        interrupt
    }

    fn is_set(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Resolves once there were `count`.
    async fn reached(&self, count: usize) {
        while self.count.load(Ordering::Relaxed) < count {
            self.came.notified().await;
        }
    }
}

/// A feed under way.
struct Run<'a> {
    feed: &'a Feed,
    runtime: &'a Runtime,
    clock: Arc<dyn Clock>,
    linger: Duration,
    record_max: usize,
    producer: Producer,
    deliveries: std::sync::mpsc::Receiver<Delivery>,
    bell: Arc<Bell>,
    reporter: Reporter,
    interrupt: Arc<Interrupt>,
    output: &'a mut Output,
    /// The topic of all records.
    topic: Option<TopicHandle>,
    /// Records, blanks and errors so far: the number of the next record's line, less one.
    tag: u64,
    sent: u64,
    not_sent: u64,
    now_ms: i64,
}

impl Feed {
    /// Sends everything and waits until it is acknowledged.
    pub(super) fn run(
        &self,
        runtime: &Runtime,
        cluster: Cluster,
        options: ProducerOptions,
        tally: Option<Arc<Mutex<Tally>>>,
        output: &mut Output,
    ) -> anyhow::Result<Exit> {
        let _inside = runtime.enter();
        let clock = Arc::clone(&cluster.options().clock);
        let (linger, record_max) = (options.linger, options.request_bytes_max + OVERHEAD_BYTES);
        let (producer, delivered) = Producer::start(cluster, options)?;
        let bell = Arc::new(Bell::new()?);
        let (ringing, deliveries) = std::sync::mpsc::channel();
        runtime.spawn(ring_for(delivered, ringing, Arc::clone(&bell)));
        let mut run = Run {
            feed: self,
            runtime,
            clock,
            linger,
            record_max,
            producer,
            deliveries,
            reporter: Reporter::new(self.is_report, self.is_json, tally),
            interrupt: Interrupt::listen(runtime, &bell),
            bell,
            output,
            topic: None,
            tag: 0,
            sent: 0,
            not_sent: 0,
            now_ms: 0,
        };
        let outcome = run.all_inputs();
        // What was read before an error is still sent.
        let flushed = run.flush();
        run.reporter.conclude(run.output);
        outcome?;
        flushed?;
        Ok(match (run.interrupt.is_set(), run.reporter.failed > 0) {
            (true, _) => Exit::Interrupted,
            (false, failed) => Exit::failed_if(failed),
        })
    }
}

/// Passes deliveries on to a thread that may be in `poll`.
async fn ring_for(
    mut delivered: mpsc::UnboundedReceiver<Delivery>,
    deliveries: std::sync::mpsc::Sender<Delivery>,
    bell: Arc<Bell>,
) {
    while let Some(delivery) = delivered.recv().await {
        if deliveries.send(delivery).is_err() {
            return;
        }
        bell.ring();
    }
}

impl Run<'_> {
    fn all_inputs(&mut self) -> anyhow::Result<()> {
        if let Some(topic) = &self.feed.topic {
            let topic = self.runtime.block_on(self.producer.open_topic(topic))?;
            self.topic = Some(topic);
            if let Some(partition) = self.feed.fixed.partition {
                let count = self.producer.partition_count(topic);
                anyhow::ensure!(
                    (partition as usize) < count,
                    "topic {} has no partition {partition}: it has {count}",
                    self.feed.topic.as_deref().unwrap_or_default()
                );
            }
        }
        let stdin = [PathBuf::from("-")];
        let files = if self.feed.files.is_empty() { &stdin[..] } else { &self.feed.files };
        // A file that is missing is found before anything of another one is sent.
        let sources = files.iter().map(|path| Source::open(path)).collect::<anyhow::Result<Vec<_>>>()?;
        for mut source in sources {
            if self.is_over() {
                break;
            }
            self.reporter.places.begin(self.tag, &source.name);
            let bar = source.size.map(|size| self.output.progress_bytes(size, &source.name));
            self.input(&mut source, bar.as_ref())?;
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.interrupt.is_set() || self.sent >= self.feed.count_max
    }

    /// One input to its end.
    fn input(&mut self, source: &mut Source, bar: Option<&ProgressBar>) -> anyhow::Result<()> {
        loop {
            self.wait_for_input(source)?;
            if self.is_over() {
                return Ok(());
            }
            if !source.fill(self.record_max).with_context(|| source.name.clone())? {
                self.too_long(source)?;
                continue;
            }
            self.now_ms = self.clock.now_ms();
            let taken = self.take_all(source)?;
            if let Some(bar) = bar {
                bar.inc(taken as u64);
            }
            self.tell_deliveries()?;
            self.producer.send_lingering();
            let (rest, is_last) = source.bytes();
            if is_last && rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Appends every whole record that the source holds; returns the bytes they took.
    fn take_all(&mut self, source: &mut Source) -> anyhow::Result<usize> {
        let (bytes, is_last) = source.bytes();
        let mut at = 0;
        let whole_is_empty = is_last && bytes.is_empty() && self.is_empty_file_a_record();
        while (at < bytes.len() || whole_is_empty) && !self.is_over() {
            match self.feed.splitter.take(&bytes[at..], is_last) {
                Take::More => break,
                Take::Skip(taken) => {
                    self.tag += 1;
                    at += taken;
                }
                Take::Record(taken, record) => {
                    self.tag += 1;
                    self.append(&record)?;
                    if self.feed.is_tee {
                        self.output.write_all(&bytes[at..at + taken])?;
                    }
                    at += taken;
                    if whole_is_empty {
                        break;
                    }
                }
                Take::Wrong(taken, why) => {
                    self.tag += 1;
                    self.refuse(&why);
                    anyhow::ensure!(taken > 0, "what follows cannot be read: it is not sent");
                    at += taken;
                }
            }
        }
        source.consume(at);
        Ok(at)
    }

    /// With `-D ''` an empty file is a record with an empty value.
    fn is_empty_file_a_record(&self) -> bool {
        matches!(self.feed.splitter, Splitter::Whole { .. })
    }

    fn append(&mut self, record: &InputRecord<'_>) -> anyhow::Result<()> {
        let fixed = &self.feed.fixed;
        let topic = match (self.topic, &record.topic) {
            (Some(topic), _) => topic,
            (None, Some(name)) => match self.runtime.block_on(self.producer.open_topic(name)) {
                Ok(topic) => topic,
                Err(error) => {
                    self.refuse(&error.to_string());
                    return Ok(());
                }
            },
            (None, None) => {
                self.refuse("it names no topic, and none is given");
                return Ok(());
            }
        };
        let new = NewRecord {
            partition: fixed.partition.or(record.partition.filter(|_| fixed.keeps_partition)),
            timestamp_ms: record.timestamp_ms.or(fixed.timestamp_ms).unwrap_or(self.now_ms),
            key: record.key.as_deref().or(fixed.key.as_deref()),
            value: record.value.as_deref(),
        };
        let own = record.headers.iter().map(|h| HeaderRef { key: &h.key, value: h.value.as_deref() });
        let given = fixed.headers.iter().map(|(key, value)| HeaderRef { key, value: value.as_deref() });
        match self.producer.append(topic, new, own.chain(given), self.tag) {
            Ok(()) => self.sent += 1,
            Err(error) => self.refuse(&error.to_string()),
        }
        if self.producer.has_room() { Ok(()) } else { self.wait_for_room() }
    }

    /// A record is not sent.
    fn refuse(&mut self, why: &str) {
        self.not_sent += 1;
        self.reporter.not_sent(self.tag, why, self.output);
    }

    /// A record longer than any request: it is left out, and what follows it is found if it can be.
    fn too_long(&mut self, source: &mut Source) -> anyhow::Result<()> {
        self.tag += 1;
        let why = format!("it is longer than {} bytes (max.request.size)", self.record_max - OVERHEAD_BYTES);
        self.refuse(&why);
        loop {
            let (bytes, is_last) = source.bytes();
            let length = bytes.len();
            match self.feed.splitter.resume(bytes) {
                Some(Resume::At(at)) => {
                    source.consume(at);
                    return Ok(());
                }
                Some(Resume::Later(_)) if is_last => {
                    source.consume(length);
                    return Ok(());
                }
                Some(Resume::Later(count)) => source.consume(count),
                None => anyhow::bail!("{}: what follows cannot be told from it: it is not sent", source.name),
            }
            source.fill(self.record_max)?;
        }
    }

    // --- waiting ---

    /// Returns when the input has more (or its end), or all is over. A pause longer than `linger.ms` sends
    /// what is there; what a person types is sent line by line.
    fn wait_for_input(&mut self, source: &Source) -> anyhow::Result<()> {
        match source.wait(&self.bell, Some(Duration::ZERO))? {
            Wake::Input => return Ok(()),
            Wake::Bell if self.interrupt.is_set() => return Ok(()),
            Wake::Bell | Wake::Nothing => self.tell_deliveries()?,
        }
        self.output.flush_all()?;
        let mut patience = Some(if source.is_terminal { Duration::ZERO } else { self.linger });
        loop {
            match source.wait(&self.bell, patience)? {
                Wake::Input => return Ok(()),
                Wake::Bell if self.interrupt.is_set() => return Ok(()),
                Wake::Bell => {
                    self.tell_deliveries()?;
                    self.output.flush_all()?;
                }
                Wake::Nothing => {
                    self.producer.send_open();
                    patience = None;
                }
            }
        }
    }

    fn wait_for_room(&mut self) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            tokio::select! {
                () = self.producer.room() => {}
                () = self.interrupt.reached(1) => {}
            }
        });
        self.tell_deliveries()
    }

    fn tell_deliveries(&mut self) -> anyhow::Result<()> {
        while let Ok(delivery) = self.deliveries.try_recv() {
            self.reporter.delivery(&delivery, self.clock.now_ms(), self.output)?;
        }
        Ok(())
    }

    /// How many records must come to an end, in one way or the other.
    fn accounted(&self) -> u64 {
        self.sent + self.not_sent
    }

    /// Waits for every acknowledgement; a second interrupt gives up.
    fn flush(&mut self) -> anyhow::Result<()> {
        let is_given_up = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.producer.flush() => false,
                () = self.interrupt.reached(2) => true,
            }
        });
        // Flushed means reported, by way of the task that rings.
        while !is_given_up && self.reporter.delivered + self.reporter.failed < self.accounted() {
            match self.deliveries.recv() {
                Ok(delivery) => self.reporter.delivery(&delivery, self.clock.now_ms(), self.output)?,
                Err(_) => break,
            }
        }
        self.tell_deliveries()?;
        let unknown = self.accounted().saturating_sub(self.reporter.delivered + self.reporter.failed);
        if is_given_up && unknown > 0 {
            self.output.error(format_args!("interrupted: {unknown} records are not acknowledged"));
        }
        self.output.flush_all()?;
        Ok(())
    }
}
