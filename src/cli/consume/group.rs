//! `consume -g`: records as a member of a consumer group.
//!
//! Begins where the group has committed, else where `auto.offset.reset` says. Commits what stdout has taken: every
//! `auto.commit.interval.ms`, before a partition goes to another member, and at the end, whatever ends it. With
//! `--commit before` an offset is committed before its record is written: at most once, instead of at least once.
//! SIGINT, SIGTERM and SIGHUP leave the group, so that others go on at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use regex::Regex;
use tokio::runtime::Runtime;

use crate::cli::args::Target;
use crate::cli::exit::{Exit, StdoutClosed, usage};
use crate::cli::output::Output;
use crate::cli::queries::{EARLIEST, LATEST, offsets_at};
use crate::client::{
    Bootstrap, ClientConfig, Cluster, Committed, Consumer, Fetched, Group, IsolationLevel, Membership,
    MembershipEvent, OffsetReset, Pulled, Subscription, Topics,
};
use crate::protocol::ErrorCode;
use crate::types::{Clock, TopicName, TopicPartition, Uuid};

use super::positions::Positions;
use super::print::{Pause, PrintError, Printer};
use super::{Args, CommitWhen, Interrupt, explain};

/// How long the last commit may take.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a commit is tried again that came while the group was between two generations.
const COMMIT_AGAIN: Duration = Duration::from_millis(100);
/// How long the end waits for a reader to take what is written, and how often it looks.
const READER_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_AT_READER: Duration = Duration::from_millis(2);
/// So long records are written before the group, signals and commits have their turn.
const WRITE_TURN: Duration = Duration::from_millis(500);
/// How often a reader is looked for while there is nothing to write.
const LOOK_FOR_READER: Duration = Duration::from_millis(500);
/// How often a member without partitions looks whether the others are done, with `-e`.
const LOOK_AT_OTHERS: Duration = Duration::from_secs(1);

/// Runs the command.
pub(super) fn run(
    args: &Args,
    group: &str,
    config: ClientConfig,
    printer: &mut Printer,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let subscription = subscription(&args.topics, config.group.excludes_internal)?;
    let Target::Cluster(list) = args.connection.target()? else {
        return Err(usage("a consumer group needs a server: say which with '-b HOST:PORT'"));
    };
    let bootstrap = Bootstrap::parse(&list).map_err(|error| usage(format!("'--bootstrap': {error}")))?;
    let commit = args.commit.unwrap_or(match config.group.commits {
        true => CommitWhen::After,
        false => CommitWhen::Never,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _inside = runtime.enter();
    let cluster = runtime.block_on(Cluster::connect(bootstrap, config.client.clone()))?;
    runtime.block_on(check_topics(&cluster, &subscription))?;
    let interrupt = Interrupt::listen(&runtime, true);
    let group = Group::new(&cluster, group);
    let membership =
        Membership::join(&group, subscription.clone(), &config.group, &config.consumer.rack, &draw_id()?);
    let clock = Arc::clone(&cluster.options().clock);
    let commit_from = clock.elapsed() + config.group.commit_interval;
    let mut member = Member {
        runtime: &runtime,
        cluster,
        group,
        membership,
        subscription,
        config,
        commit,
        ends: args.exit,
        idle: args.idle,
        idle_since: clock.elapsed(),
        positions: Positions::default(),
        consumer: None,
        unprinted: None,
        others_end: None,
        has_settled: false,
        commit_from,
        failed: false,
        interrupt: Arc::clone(&interrupt),
        clock,
        output,
    };
    let outcome = if printer.is_done() { Ok(()) } else { member.read(printer) };
    let finished = member.finish(outcome);
    runtime.shutdown_timeout(Duration::ZERO);
    let failed = match finished {
        // Whoever interrupts a pipeline interrupts its reader too.
        Err(error) if interrupt.is_set() && StdoutClosed::is_in(&error) => false,
        finished => finished?,
    };
    Ok(match interrupt.is_set() {
        true if !interrupt.is_orderly.load(Ordering::Relaxed) => Exit::Interrupted,
        _ => Exit::failed_if(failed),
    })
}

/// Names, and patterns: what begins with `^`, as librdkafka has it.
fn subscription(topics: &[String], excludes_internal: bool) -> anyhow::Result<Subscription> {
    let (patterns, names): (Vec<&String>, Vec<&String>) =
        topics.iter().partition(|topic| topic.starts_with('^'));
    let mut subscription = Subscription { excludes_internal, ..Default::default() };
    for name in names {
        let name = TopicName::new(name).map_err(|error| usage(error.to_string()))?;
        subscription.topics.insert(name.as_str().into());
    }
    if !patterns.is_empty() {
        for pattern in &patterns {
            Regex::new(pattern).map_err(|error| usage(format!("{pattern:?}: {error}")))?;
        }
        let alternatives: Vec<String> = patterns.iter().map(|pattern| format!("(?:{pattern})")).collect();
        let pattern = Regex::new(&alternatives.join("|")).map_err(|error| usage(error.to_string()))?;
        subscription.pattern = Some(pattern);
    }
    Ok(subscription)
}

/// A topic that is named and missing is a mistake; what a pattern finds may come later.
async fn check_topics(cluster: &Cluster, subscription: &Subscription) -> anyhow::Result<()> {
    for topic in &subscription.topics {
        cluster.topic(topic, false).await?;
    }
    Ok(())
}

/// A member id of the new protocol.
fn draw_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    loop {
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let id = Uuid::from_random_bytes(bytes);
        let text = id.to_string();
        if !id.is_reserved() && !text.starts_with('-') {
            return Ok(text);
        }
    }
}

/// What comes next.
enum Next {
    Event(MembershipEvent),
    Pulled(Pulled),
    /// It is time to commit, or to look at the others.
    Time,
    Enough,
}

struct Member<'a> {
    runtime: &'a Runtime,
    cluster: Cluster,
    group: Group,
    membership: Membership,
    subscription: Subscription,
    config: ClientConfig,
    commit: CommitWhen,
    ends: bool,
    idle: Option<Duration>,
    /// When something came last.
    idle_since: Duration,
    positions: Positions,
    consumer: Option<Consumer>,
    /// What was fetched and is not printed to its end.
    unprinted: Option<Fetched>,
    /// Where partitions ended when this member had none, with `-e`.
    others_end: Option<BTreeMap<TopicPartition, i64>>,
    has_settled: bool,
    commit_from: Duration,
    /// A partition could not be read, or an offset not committed.
    failed: bool,
    interrupt: Arc<Interrupt>,
    clock: Arc<dyn Clock>,
    output: &'a mut Output,
}

impl Member<'_> {
    /// Reads and prints until enough came, or nobody wants more.
    fn read(&mut self, printer: &mut Printer) -> anyhow::Result<()> {
        loop {
            let next = self.next()?;
            self.membership.works();
            match next {
                Next::Event(event) => self.heed(event)?,
                Next::Pulled(pulled) => {
                    self.idle_since = self.clock.elapsed();
                    self.take(pulled, printer)?;
                }
                Next::Time => self.check_reader()?,
                Next::Enough => return Ok(()),
            }
            if printer.is_done() || self.is_at_end()? {
                return Ok(());
            }
            if self.commit == CommitWhen::After && self.clock.elapsed() >= self.commit_from {
                self.flush()?;
                self.commit_written(|_| true);
            }
        }
    }

    fn next(&mut self) -> anyhow::Result<Next> {
        if self.interrupt.is_set() {
            return Ok(Next::Enough);
        }
        if let Some(event) = self.membership.try_next() {
            return Ok(Next::Event(event));
        }
        if let Some(rest) = self.unprinted.take() {
            return Ok(Next::Pulled(Pulled::Data(rest)));
        }
        self.consumer.take_if(|consumer| consumer.is_over());
        if let Some(pulled) = self.consumer.as_mut().and_then(Consumer::try_next) {
            return Ok(Next::Pulled(pulled));
        }
        self.flush()?;
        self.membership.waits();
        let has_uncommitted =
            self.commit == CommitWhen::After && !self.positions.to_commit(|_| true).is_empty();
        let now = self.clock.elapsed();
        let looks_at_others = self.ends && self.has_settled && self.positions.is_empty();
        let looks = [
            looks_at_others.then_some(now + LOOK_AT_OTHERS),
            has_uncommitted.then_some(self.commit_from),
            self.output.is_pipe().then_some(now + LOOK_FOR_READER),
        ];
        let until = looks.into_iter().flatten().min();
        let patience = self.idle.map_or(Duration::MAX, |idle| self.idle_since.saturating_add(idle));
        let Self { runtime, membership, consumer, clock, interrupt, .. } = self;
        Ok(runtime.block_on(async {
            tokio::select! {
                biased;
                event = membership.next() => Next::Event(event),
                pulled = pulled(consumer) => Next::Pulled(pulled),
                () = interrupt.set.notified() => Next::Enough,
                () = clock.wait_until(patience), if patience != Duration::MAX => Next::Enough,
                () = clock.wait_until(until.unwrap_or(Duration::MAX)) => Next::Time,
            }
        }))
    }

    /// Everything that was read is written, or it is an error.
    fn flush(&mut self) -> anyhow::Result<()> {
        self.output.flush_all()?;
        self.positions.written(self.output.accepted_bytes());
        self.check_reader()
    }

    /// A reader that has left ends the command, as it would with the next record.
    fn check_reader(&mut self) -> anyhow::Result<()> {
        let reader = self.output.reader();
        if reader.is_gone {
            self.positions.take_back(reader.taken_bytes);
            return Err(StdoutClosed.into());
        }
        Ok(())
    }

    /// Waits a little until the reader has taken what stdout has: it may be about to leave.
    fn wait_for_reader(&mut self) -> anyhow::Result<()> {
        let deadline = self.clock.elapsed() + READER_TIMEOUT;
        while self.output.reader().taken_bytes < self.output.accepted_bytes() {
            self.check_reader()?;
            if self.clock.elapsed() >= deadline {
                return Ok(());
            }
            let clock = Arc::clone(&self.clock);
            self.runtime.block_on(clock.wait(LOOK_AT_READER));
        }
        self.check_reader()
    }

    fn heed(&mut self, event: MembershipEvent) -> anyhow::Result<()> {
        match event {
            MembershipEvent::Assigned(partitions) => {
                self.has_settled = true;
                self.others_end = None;
                if !partitions.is_empty() {
                    self.begin(&partitions)?;
                    self.restart();
                }
            }
            MembershipEvent::Revoked(partitions) => {
                self.flush()?;
                if self.commit == CommitWhen::After {
                    let gone: BTreeSet<&TopicPartition> = partitions.iter().collect();
                    self.commit_written(|partition| gone.contains(partition));
                }
                self.positions.remove(&partitions);
                self.restart();
                self.membership.released();
            }
            MembershipEvent::Lost(partitions) => {
                let uncommitted = self.positions.to_commit(|partition| partitions.contains(partition));
                self.output.warn(lost(self.group.id(), &partitions, uncommitted.len()));
                self.positions.remove(&partitions);
                self.restart();
            }
            MembershipEvent::Failed(error) => bail!("{error}"),
        }
        Ok(())
    }

    /// Reading goes on with what is ours now, where it stood.
    fn restart(&mut self) {
        // The old one first: it holds connections that the new one uses.
        self.consumer = None;
        self.unprinted = None;
        let assignments = self.positions.assignments();
        if !assignments.is_empty() {
            self.consumer = Some(Consumer::start(&self.cluster, &self.config.consumer, assignments));
        }
    }

    /// Finds where partitions that are ours now begin, and with `-e` end.
    fn begin(&mut self, partitions: &[TopicPartition]) -> anyhow::Result<()> {
        let committed = self.runtime.block_on(self.group.committed(Some(partitions), true))?;
        let mut starts: BTreeMap<TopicPartition, ((i64, i32), Option<i64>)> = BTreeMap::new();
        let mut fresh = Vec::new();
        for partition in partitions {
            match committed.get(partition) {
                Some(Ok(found)) => {
                    let start = (found.offset, found.leader_epoch);
                    starts.insert(partition.clone(), (start, Some(found.offset)));
                }
                Some(Err(code)) => bail!("{partition}: {} ({})", code.message(), code.name()),
                None => fresh.push(partition.clone()),
            }
        }
        if let Some(partition) = fresh.first() {
            let point = match self.config.consumer.offset_reset {
                OffsetReset::Earliest => EARLIEST,
                OffsetReset::Latest => LATEST,
                OffsetReset::None => bail!(
                    "{partition}: group {} has committed no offset (auto.offset.reset=none); \
                     say where to begin with 'klamm groups reset'",
                    self.group.id()
                ),
            };
            for (partition, offset) in self.offsets(&fresh, point)? {
                starts.insert(partition, ((offset, -1), None));
            }
        }
        let ends = if self.ends { self.offsets(partitions, LATEST)? } else { BTreeMap::new() };
        for (partition, (start, committed)) in starts {
            let end = ends.get(&partition).copied();
            self.positions.add(partition, start, committed, end);
        }
        Ok(())
    }

    fn offsets(
        &self,
        partitions: &[TopicPartition],
        point: i64,
    ) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
        let isolation = i8::from(self.config.consumer.isolation == IsolationLevel::ReadCommitted);
        let found = self.runtime.block_on(offsets_at(&self.cluster, partitions, point, isolation));
        let mut offsets = BTreeMap::new();
        for (partition, outcome) in found {
            let found = outcome.with_context(|| partition.to_string())?;
            offsets.insert(partition, found.offset.map_or(0, |offset| offset.0));
        }
        Ok(offsets)
    }

    fn take(&mut self, pulled: Pulled, printer: &mut Printer) -> anyhow::Result<()> {
        match pulled {
            Pulled::Data(fetched) => self.print(fetched, printer)?,
            Pulled::Ended(partition) => self.positions.ended(&partition),
            Pulled::Jumped { partition, from, to } => {
                self.output.warn(format_args!(
                    "{partition}: offset {from} is not there any more; reading goes on at {to}"
                ));
                self.positions.read(&partition, (to, -1));
            }
            Pulled::Failed(partition, _) if self.lets_go(&partition) => {}
            Pulled::Failed(partition, error) => {
                self.failed = true;
                self.output.error(format_args!("{partition}: {error}"));
                self.positions.ended(&partition);
            }
        }
        Ok(())
    }

    /// Whether a partition is of a topic that a pattern found and that is deleted by now. That is no failure: it is said
    /// once, and nothing more of it is read or committed.
    fn lets_go(&mut self, partition: &TopicPartition) -> bool {
        let topic = partition.topic.as_str();
        if self.subscription.topics.contains(topic) {
            return false;
        }
        if !self.positions.has(partition) {
            return true;
        }
        let which = Topics::Named { names: &[topic], create: false };
        let Ok(metadata) = self.runtime.block_on(self.cluster.metadata(which)) else { return false };
        let found = metadata.topics.get(topic);
        let is_gone = found.is_none_or(|found| found.error == ErrorCode::UnknownTopicOrPartition);
        if is_gone {
            self.output.warn(format_args!("topic {topic} is gone; the others are read on"));
            self.positions.remove(&self.positions.of_topic(topic));
        }
        is_gone
    }

    /// Prints what was fetched, or the first part of it: a reader that takes its time keeps nobody else waiting.
    fn print(&mut self, fetched: Fetched, printer: &mut Printer) -> anyhow::Result<()> {
        let topic = TopicName::new(&fetched.topic)?;
        let partition = TopicPartition::new(topic, fetched.partition);
        if !self.positions.has(&partition) {
            return Ok(());
        }
        if self.commit == CommitWhen::Before {
            let position = printer.foresee(&fetched).map_err(|error| explain(error, &fetched))?;
            if !self.commit_ahead(&partition, position) {
                // Another member's by now, most likely: what is ours is said next, and this is read again.
                self.restart();
                return Ok(());
            }
        }
        let until = self.clock.elapsed() + WRITE_TURN;
        let is_due = || self.interrupt.is_set() || self.clock.elapsed() >= until;
        // What is committed already is printed, whatever comes.
        let pause: Option<Pause<'_>> = if self.commit == CommitWhen::Before { None } else { Some(&is_due) };
        let outcome = printer.print_until(&fetched, self.output, pause);
        if !matches!(outcome, Err(PrintError::Output(_)))
            && let Some(position) = printer.position
        {
            self.positions.read(&partition, position);
        }
        outcome.map_err(|error| explain(error, &fetched))?;
        if printer.has_paused
            && let Some((from, _)) = printer.position
        {
            self.unprinted = Some(Fetched { from, ..fetched });
        }
        Ok(())
    }

    /// Commits an offset whose records are not written yet; false where that is refused.
    fn commit_ahead(&mut self, partition: &TopicPartition, (offset, leader_epoch): (i64, i32)) -> bool {
        let committed = Committed { offset, leader_epoch, ..Default::default() };
        let due = BTreeMap::from([(partition.clone(), committed)]);
        let refused = self.send_commit(&due, self.config.client.api_timeout);
        if refused.is_empty() {
            return true;
        }
        self.wait_for_the_group();
        false
    }

    /// Between two generations nothing can be committed: waits for the news a little.
    fn wait_for_the_group(&mut self) {
        let clock = Arc::clone(&self.clock);
        self.runtime.block_on(clock.wait(COMMIT_AGAIN));
    }

    /// Commits what is written, and says what could not be.
    fn commit_written(&mut self, meant: impl Fn(&TopicPartition) -> bool) {
        self.commit_from = self.clock.elapsed() + self.config.group.commit_interval;
        let due = self.positions.to_commit(meant);
        if due.is_empty() {
            return;
        }
        for (partition, why) in self.send_commit(&due, self.config.client.api_timeout) {
            self.output.warn(not_committed(&partition, &due, &why));
        }
    }

    /// Commits; what is returned was refused, with the reason. Between two generations it is tried again.
    fn send_commit(
        &mut self,
        due: &BTreeMap<TopicPartition, Committed>,
        patience: Duration,
    ) -> Vec<(TopicPartition, String)> {
        let deadline = self.clock.elapsed() + patience;
        let mut left = due.clone();
        loop {
            let identity = self.membership.identity();
            if !identity.is_member() {
                let why = || "this member is no longer in the group".to_owned();
                return left.into_keys().map(|partition| (partition, why())).collect();
            }
            let outcome = {
                let Self { runtime, group, clock, .. } = self;
                runtime.block_on(async {
                    tokio::select! {
                        outcome = group.commit(&identity, &left) => outcome.map_err(|error| error.to_string()),
                        () = clock.wait_until(deadline) => Err("the coordinator did not answer in time".to_owned()),
                    }
                })
            };
            let outcomes = match outcome {
                Ok(outcomes) => outcomes,
                Err(why) => return left.into_keys().map(|partition| (partition, why.clone())).collect(),
            };
            for (partition, code) in &outcomes {
                if *code == ErrorCode::None
                    && let Some(committed) = left.remove(partition)
                {
                    self.positions.committed(partition, committed.offset);
                }
            }
            let is_unknown = |code: &ErrorCode| {
                matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
            };
            left.retain(|partition, _| {
                !(outcomes.get(partition).is_some_and(is_unknown) && self.lets_go(partition))
            });
            let between = |code: &ErrorCode| {
                matches!(code, ErrorCode::RebalanceInProgress | ErrorCode::StaleMemberEpoch)
            };
            let is_between = left.keys().any(|partition| outcomes.get(partition).is_some_and(between));
            // A classic group that rebalances takes commits again only after this member has joined: it must hear.
            let may_wait =
                (is_between && self.commit != CommitWhen::Before) || self.membership.identity() != identity;
            if left.is_empty() || !may_wait || self.clock.elapsed() >= deadline {
                let why = |partition: &TopicPartition| match outcomes.get(partition) {
                    Some(code) => format!("{} ({})", code.message(), code.name()),
                    None => "the coordinator did not answer for it".to_owned(),
                };
                return left.keys().map(|partition| (partition.clone(), why(partition))).collect();
            }
            self.wait_for_the_group();
        }
    }

    /// With `-e`: whether everything that is ours is read to its end; where nothing is, whether the others are done.
    fn is_at_end(&mut self) -> anyhow::Result<bool> {
        if !self.ends || !self.has_settled {
            return Ok(false);
        }
        if !self.positions.is_empty() {
            return Ok(self.positions.have_ended());
        }
        if self.commit == CommitWhen::Never {
            return Ok(true);
        }
        let ends = match self.others_end.take() {
            Some(ends) => ends,
            None => self.ends_of_all()?,
        };
        let partitions: Vec<TopicPartition> = ends.keys().cloned().collect();
        let committed = self.runtime.block_on(self.group.committed(Some(&partitions), false))?;
        let starts = self.offsets(&partitions, EARLIEST)?;
        let is_done = ends.iter().all(|(partition, end)| {
            let start = starts.get(partition).copied().unwrap_or(0);
            let done =
                committed.get(partition).and_then(|found| found.as_ref().ok()).map(|found| found.offset);
            done.unwrap_or(start).max(start) >= *end
        });
        self.others_end = Some(ends);
        Ok(is_done)
    }

    /// Where every partition that is subscribed to ends now.
    fn ends_of_all(&self) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
        let mut partitions = Vec::new();
        let names: Vec<&str> = self.subscription.topics.iter().map(|topic| &**topic).collect();
        let which = match &self.subscription.pattern {
            Some(_) => Topics::All,
            None => Topics::Named { names: &names, create: false },
        };
        let metadata = self.runtime.block_on(self.cluster.metadata(which))?;
        for (name, topic) in &metadata.topics {
            let is_named = self.subscription.topics.contains(name.as_str());
            let is_internal = topic.is_internal && self.subscription.excludes_internal;
            let matches = self.subscription.pattern.as_ref().is_some_and(|pattern| pattern.is_match(name));
            let Ok(name) = TopicName::new(name) else { continue };
            if is_named || (matches && !is_internal) {
                let of_topic =
                    topic.partitions.iter().map(|one| TopicPartition::new(name.clone(), one.partition));
                partitions.extend(of_topic);
            }
        }
        self.offsets(&partitions, LATEST)
    }

    /// The end, however it came: what stdout took is committed, and the group is left. Whether anything failed.
    fn finish(mut self, outcome: anyhow::Result<()>) -> anyhow::Result<bool> {
        self.membership.works();
        let flushed = self.flush().and_then(|()| self.wait_for_reader());
        if flushed.is_err() {
            // As far as a reader took it, what was flushed before counts.
            let reader = self.output.reader();
            self.positions.take_back(reader.taken_bytes);
        }
        if self.commit == CommitWhen::After {
            let due = self.positions.to_commit(|_| true);
            for (partition, why) in self.send_commit(&due, LAST_COMMIT_TIMEOUT) {
                self.failed = true;
                self.output.error(not_committed(&partition, &due, &why));
            }
        }
        self.consumer = None;
        self.runtime.block_on(self.membership.leave());
        outcome?;
        flushed?;
        Ok(self.failed)
    }
}

/// What a consumer pulls; never where there is none.
async fn pulled(consumer: &mut Option<Consumer>) -> Pulled {
    if let Some(consumer) = consumer
        && let Some(pulled) = consumer.next().await
    {
        return pulled;
    }
    std::future::pending().await
}

fn not_committed(partition: &TopicPartition, due: &BTreeMap<TopicPartition, Committed>, why: &str) -> String {
    let offset = due.get(partition).map_or(0, |committed| committed.offset);
    format!("{partition}: offset {offset} is not committed, so what was written will be read again: {why}")
}

fn lost(group: &str, partitions: &[TopicPartition], uncommitted: usize) -> String {
    let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    let again =
        if uncommitted > 0 { "; what was written since the last commit may be read again" } else { "" };
    format!("group {group} has given {} to others{again}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe(topics: &[&str]) -> anyhow::Result<Subscription> {
        subscription(&topics.iter().map(|&topic| topic.to_owned()).collect::<Vec<_>>(), true)
    }

    #[test]
    fn what_begins_with_a_caret_is_a_pattern() {
        let subscription = subscribe(&["orders", "^a-", "^b$"]).unwrap();
        assert_eq!(subscription.topics.len(), 1);
        let pattern = subscription.pattern.unwrap();
        for (name, is_match) in
            [("a-1", true), ("b", true), ("bb", false), ("xa-1", false), ("orders", false)]
        {
            assert_eq!(pattern.is_match(name), is_match, "{name}");
        }
        assert!(subscribe(&["^("]).is_err());
        assert!(subscribe(&["a/b"]).is_err());
        assert!(subscribe(&["orders"]).unwrap().pattern.is_none());
    }
}
