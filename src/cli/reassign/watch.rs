//! Waiting for reassignments: bars on a terminal, a line for what is done, and why nothing moves where nothing does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar};
use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::client::Cluster;
use crate::types::{BrokerId, ByteSize, Clock, TopicPartition};

use super::assignment::Targets;
use super::facts::{Copied, Look};
use super::ids;
use super::throttle::Throttles;
use super::why;

/// Between two looks, at first and at most.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(2);
/// After so long without an answer from any broker the cluster is taken to be gone.
const UNHEARD_MAX: Duration = Duration::from_secs(300);
/// After so long without a byte it is said why.
const STILL: Duration = Duration::from_secs(5);
/// How often a partition must be found neither on its way nor there, before that is believed: brokers learn late.
const LOST_MAX: u32 = 10;
/// So many partitions get a bar of their own.
const BARS_MAX: usize = 8;
/// So many reasons are given at a time.
const REASONS_MAX: usize = 5;

/// A partition that is not there yet.
struct Waiting {
    target: Vec<i32>,
    copied: Copied,
    /// When a byte last came.
    moved: Duration,
    lost: u32,
    /// What was said about it last.
    said: String,
    bar: Option<ProgressBar>,
}

/// See the module.
pub(super) struct Watch<'a> {
    cluster: &'a Cluster,
    clock: Arc<dyn Clock>,
    topics: BTreeSet<String>,
    waiting: BTreeMap<TopicPartition, Waiting>,
    all: usize,
    done_bytes: u64,
    failed: bool,
    json: bool,
    bars: MultiProgress,
    total: ProgressBar,
}

impl<'a> Watch<'a> {
    /// Watches partitions on their way to their targets.
    pub(super) fn new(cluster: &'a Cluster, targets: Targets, json: bool, output: &Output) -> Self {
        let clock = Arc::clone(&cluster.options().clock);
        let moved = clock.elapsed();
        let bars = output.progress_lines();
        let total = bars.add(output.progress_bytes(0, "moving"));
        let waiting = |target| Waiting {
            target,
            copied: Copied::default(),
            moved,
            lost: 0,
            said: String::new(),
            bar: None,
        };
        Self {
            cluster,
            clock,
            topics: targets.keys().map(|partition| partition.topic.to_string()).collect(),
            all: targets.len(),
            waiting: targets.into_iter().map(|(partition, target)| (partition, waiting(target))).collect(),
            done_bytes: 0,
            failed: false,
            json,
            bars,
            total,
        }
    }

    /// Waits until all are there or given up: [`Exit::Done`], [`Exit::Failed`] where one was given up,
    /// [`Exit::Condition`] where the time is up.
    ///
    /// # Errors
    /// Where stdout takes no more, no broker has answered for [`UNHEARD_MAX`], or a broker's refusal that another try
    /// does not mend.
    pub(super) async fn wait(
        &mut self,
        at_most: Option<Duration>,
        output: &mut Output,
    ) -> anyhow::Result<Exit> {
        let deadline = at_most.map(|at_most| self.clock.elapsed() + at_most);
        let mut pause = LOOK_MIN;
        let mut unheard_since = None;
        loop {
            match Look::at(self.cluster, &self.topics).await {
                Ok(look) => {
                    unheard_since = None;
                    self.take(&look, output)?;
                    self.complain(&look, output).await;
                }
                // Brokers come and go while partitions move.
                Err(error) if error.is_retriable() => {
                    let now = self.clock.elapsed();
                    match unheard_since {
                        None => self.bars.suspend(|| output.warn(format_args!("{error}; trying again"))),
                        Some(since) if now - since >= UNHEARD_MAX => {
                            return Err(anyhow::Error::from(error).context(
                                "the cluster does not answer; once it does, the same command again takes up the wait",
                            ));
                        }
                        Some(_) => {}
                    }
                    unheard_since.get_or_insert(now);
                }
                Err(error) => return Err(error.into()),
            }
            self.draw();
            output.flush_all()?;
            if self.waiting.is_empty() {
                self.total.finish_and_clear();
                return Ok(Exit::failed_if(self.failed));
            }
            if deadline.is_some_and(|deadline| self.clock.elapsed() >= deadline) {
                self.give_up(output);
                return Ok(Exit::Condition);
            }
            self.clock.wait(pause).await;
            pause = (pause * 3 / 2).min(LOOK_MAX);
        }
    }

    /// Takes note of what has come.
    fn take(&mut self, look: &Look, output: &mut Output) -> anyhow::Result<()> {
        let now = self.clock.elapsed();
        let partitions: Vec<TopicPartition> = self.waiting.keys().cloned().collect();
        for partition in partitions {
            let Some(waiting) = self.waiting.get_mut(&partition) else { continue };
            match look.ongoing.get(&partition) {
                Some(ongoing) if ongoing.target() == waiting.target => {
                    let copied = look.copied(&partition);
                    if copied.bytes != waiting.copied.bytes {
                        waiting.moved = now;
                        waiting.said.clear();
                    }
                    (waiting.copied, waiting.lost) = (copied, 0);
                }
                Some(ongoing) => {
                    let why = format!("another reassignment took its place, to {}", ids(&ongoing.target()));
                    self.fail(&partition, &why, output)?;
                }
                None if look.replicas(&partition) == waiting.target => self.done(&partition, output)?,
                None if waiting.lost < LOST_MAX => waiting.lost += 1,
                None => {
                    let there = look.replicas(&partition);
                    let why =
                        format!("it was cancelled, or another took its place: it is on {}", ids(&there));
                    self.fail(&partition, &why, output)?;
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, partition: &TopicPartition) -> Option<Waiting> {
        let waiting = self.waiting.remove(partition)?;
        if let Some(bar) = &waiting.bar {
            bar.finish_and_clear();
            self.bars.remove(bar);
        }
        Some(waiting)
    }

    fn done(&mut self, partition: &TopicPartition, output: &mut Output) -> anyhow::Result<()> {
        let Some(waiting) = self.remove(partition) else { return Ok(()) };
        self.done_bytes += waiting.copied.of;
        self.tell(partition, &waiting.target, true, output)?;
        if !self.json {
            let words = format!("{partition} is on {}", ids(&waiting.target));
            self.bars.suspend(|| output.say(words));
        }
        Ok(())
    }

    fn fail(&mut self, partition: &TopicPartition, why: &str, output: &mut Output) -> anyhow::Result<()> {
        let Some(waiting) = self.remove(partition) else { return Ok(()) };
        self.failed = true;
        self.bars.suspend(|| {
            output.error(format_args!("{partition} does not get to {}: {why}", ids(&waiting.target)));
        });
        self.tell(partition, &waiting.target, false, output)
    }

    fn tell(
        &self,
        partition: &TopicPartition,
        target: &[i32],
        moved: bool,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        if self.json {
            let object = json!({
                "topic": partition.topic.as_str(),
                "partition": partition.partition,
                "replicas": target,
                "moved": moved,
            });
            self.bars.suspend(|| output.json(&object))?;
        }
        Ok(())
    }

    /// Says why nothing moves, where nothing does.
    async fn complain(&mut self, look: &Look, output: &mut Output) {
        let now = self.clock.elapsed();
        let is_still =
            |waiting: &Waiting| now.saturating_sub(waiting.moved) >= STILL && waiting.said.is_empty();
        let still: Vec<TopicPartition> = self
            .waiting
            .iter()
            .filter(|(partition, waiting)| is_still(waiting) && look.ongoing.contains_key(*partition))
            .map(|(partition, _)| partition.clone())
            .collect();
        if still.is_empty() {
            return;
        }
        let alive: Vec<BrokerId> = still
            .iter()
            .flat_map(|partition| look.ongoing[partition].replicas.iter().map(|&id| BrokerId(id)))
            .filter(|id| look.is_alive(id.0))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let topics: BTreeSet<String> = still.iter().map(|partition| partition.topic.to_string()).collect();
        let throttles = Throttles::read(self.cluster, alive, &topics).await.unwrap_or_default();
        for (place, partition) in still.iter().enumerate() {
            let reason = why::in_words(&why::waits(look, partition, &throttles));
            let Some(waiting) = self.waiting.get_mut(partition) else { continue };
            if place < REASONS_MAX {
                self.bars.suspend(|| output.warn(format_args!("{partition} stands still: {reason}")));
            }
            waiting.said = reason;
        }
        if still.len() > REASONS_MAX {
            let more = still.len() - REASONS_MAX;
            let words = format!("{more} more stand still; 'klamm reassign status' shows them");
            self.bars.suspend(|| output.warn(words));
        }
    }

    fn draw(&mut self) {
        let left: u64 = self.waiting.values().map(|waiting| waiting.copied.left()).sum();
        let (bytes, of) =
            self.waiting.values().fold((self.done_bytes, self.done_bytes), |(bytes, of), one| {
                (bytes + one.copied.bytes, of + one.copied.of)
            });
        let there = self.all - self.waiting.len();
        self.total.set_length(of);
        self.total.set_position(bytes);
        self.total.set_message(format!("{there} of {} there, {} left", self.all, ByteSize(left)));
        let mut drawn = self.waiting.values().filter(|waiting| waiting.bar.is_some()).count();
        for (partition, waiting) in &mut self.waiting {
            if waiting.bar.is_none() && drawn < BARS_MAX && waiting.copied.of > 0 {
                let template = "  {msg} {wide_bar} {bytes}/{total_bytes}";
                let what = format!("{partition} to {}", ids(&waiting.target));
                waiting.bar = Some(self.bars.add(Output::bar_of(template, &what)));
                drawn += 1;
            }
            if let Some(bar) = &waiting.bar {
                bar.set_length(waiting.copied.of);
                bar.set_position(waiting.copied.bytes);
            }
        }
    }

    fn give_up(&self, output: &mut Output) {
        let _ = self.bars.clear();
        output.error(format_args!(
            "{} of {} partitions are not there yet; the cluster goes on with them",
            self.waiting.len(),
            self.all
        ));
    }
}
