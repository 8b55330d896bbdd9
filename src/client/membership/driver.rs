//! Does what a membership protocol decides: asks the coordinator and the cluster, tells the reader, keeps the time.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::protocol::messages::leave_group_request::LeaveGroupRequest;
use crate::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use crate::protocol::{ErrorCode, Request, Str};
use crate::types::{Clock, TopicName, TopicPartition, Uuid};

use super::super::cluster::Lane;
use super::super::error::ClientError;
use super::super::metadata::{ClusterMetadata, Topics};
use super::assignor::{Layout, Part};
use super::protocol::{Answer, Goodbye, Protocol, Question, Step, Told};
use super::{Group, Identity, MembershipEvent, Subscription};

/// How long leaving may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);
/// What a coordinator may take beyond the time that members have to join.
const JOIN_GRACE: Duration = Duration::from_secs(5);
/// How often a reader is looked for that has been away for too long.
const LOOK_FOR_READER: Duration = Duration::from_millis(200);
/// The first LeaveGroup with a list of members.
const LEAVE_SEVERAL_FROM: i16 = 3;

/// What the reader says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Released,
    Leave,
}

type Asking = Pin<Box<dyn Future<Output = Result<Answer, ClientError>> + Send>>;
type Looking = Pin<Box<dyn Future<Output = Option<(BTreeSet<Arc<str>>, Layout)>> + Send>>;

/// What came while nothing was to be done.
enum Came {
    Answer(Result<Answer, ClientError>),
    Topics(Option<(BTreeSet<Arc<str>>, Layout)>),
    Command(Option<Command>),
    Time,
}

/// The reader, as far as it can be watched.
pub(super) struct Reader {
    /// Since when it is at work, in milliseconds, plus one; 0 while it waits.
    pub(super) busy_since: Arc<AtomicU64>,
    /// How long it may be.
    pub(super) patience: Duration,
}

impl Reader {
    /// When it has been away for too long; `None` while it waits.
    fn deadline(&self) -> Option<Duration> {
        let since = self.busy_since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(since).saturating_add(self.patience))
    }
}

/// Drives one membership.
pub(super) struct Driver {
    group: Group,
    protocol: Box<dyn Protocol>,
    subscription: Subscription,
    identity: Arc<Mutex<Identity>>,
    reader: Reader,
    is_paused: bool,
    asking: Option<Asking>,
    looking: Option<Looking>,
    look_again: Duration,
    /// How many times the reader was told to let go and has not yet.
    releasing: usize,
}

impl Driver {
    pub(super) fn new(
        group: Group,
        protocol: Box<dyn Protocol>,
        subscription: Subscription,
        identity: Arc<Mutex<Identity>>,
        reader: Reader,
    ) -> Self {
        Self {
            group,
            protocol,
            subscription,
            identity,
            reader,
            is_paused: false,
            asking: None,
            looking: None,
            look_again: Duration::ZERO,
            releasing: 0,
        }
    }

    /// Runs until the reader leaves, is gone, or the membership fails.
    pub(super) async fn run(
        mut self,
        tell: mpsc::UnboundedSender<MembershipEvent>,
        mut commands: mpsc::UnboundedReceiver<Command>,
    ) {
        let clock = Arc::clone(&self.group.cluster().options().clock);
        if !self.begin(&clock).await {
            // Nothing is known of the topics yet: the first look again will tell.
            self.protocol.subscribed(clock.elapsed(), &self.subscription.topics, &Layout::new());
        }
        loop {
            let now = clock.elapsed();
            self.look(now);
            let until = match self.protocol.next(now) {
                Step::Ask(question) => {
                    self.asking = Some(ask(self.group.clone(), *question, self.reader.patience));
                    continue;
                }
                Step::Tell(told) => {
                    *self.identity.lock() = self.protocol.identity();
                    self.releasing += usize::from(matches!(told, Told::Revoke(_)));
                    if tell.send(event(told)).is_err() {
                        return;
                    }
                    continue;
                }
                Step::Fail(error) => {
                    // Where the reader is gone nobody needs to know.
                    let _ = tell.send(MembershipEvent::Failed(error));
                    return self.say_goodbye().await;
                }
                Step::Wait(until) => until,
            };
            *self.identity.lock() = self.protocol.identity();
            match self.wait(&clock, until, &mut commands).await {
                Came::Answer(answer) => {
                    self.asking = None;
                    self.judge(&answer);
                    self.protocol.answered(clock.elapsed(), answer);
                }
                Came::Topics(found) => {
                    self.looking = None;
                    if let Some((topics, layout)) = found {
                        self.protocol.subscribed(clock.elapsed(), &topics, &layout);
                    }
                }
                Came::Command(Some(Command::Released)) => {
                    self.releasing = self.releasing.saturating_sub(1);
                    if self.releasing == 0 {
                        self.protocol.released(clock.elapsed());
                    }
                }
                Came::Command(Some(Command::Leave)) => return self.say_goodbye().await,
                // Dropped without leaving, as if it had been killed.
                Came::Command(None) => return,
                Came::Time => {}
            }
            self.watch_the_reader(clock.elapsed()).await;
        }
    }

    /// What the topics are, before the first join: else it would be for none of them.
    async fn begin(&mut self, clock: &Arc<dyn Clock>) -> bool {
        self.look(clock.elapsed());
        let Some(looking) = self.looking.take() else { return false };
        match looking.await {
            Some((topics, layout)) => {
                self.protocol.subscribed(clock.elapsed(), &topics, &layout);
                true
            }
            None => false,
        }
    }

    async fn wait(
        &mut self,
        clock: &Arc<dyn Clock>,
        until: Option<Duration>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
    ) -> Came {
        let watch = match self.is_paused {
            true => Some(clock.elapsed() + LOOK_FOR_READER),
            false => self.reader.deadline(),
        };
        let until = [until, watch, Some(self.look_again)].into_iter().flatten().min();
        tokio::select! {
            biased;
            command = commands.recv() => Came::Command(command),
            answer = there(&mut self.asking) => Came::Answer(answer),
            found = there(&mut self.looking) => Came::Topics(found),
            () = clock.wait_until(until.unwrap_or(Duration::MAX)) => Came::Time,
        }
    }

    /// A reader that does not come back loses its partitions, as Kafka's clients have it.
    async fn watch_the_reader(&mut self, now: Duration) {
        let is_away = self.reader.deadline().is_some_and(|deadline| now >= deadline);
        if is_away && !self.is_paused {
            self.is_paused = true;
            self.asking = None;
            self.releasing = 0;
            if let Some(goodbye) = self.protocol.pause() {
                send_goodbye(&self.group, goodbye).await;
            }
        } else if !is_away && self.is_paused {
            self.is_paused = false;
            self.protocol.resume(now);
        }
    }

    /// A coordinator that is none, or cannot be reached, is looked for again.
    fn judge(&self, answer: &Result<Answer, ClientError>) {
        let code = match answer {
            Ok(Answer::Join(response)) => response.error_code,
            Ok(Answer::Sync(response)) => response.error_code,
            Ok(Answer::Heartbeat(response)) => response.error_code,
            Ok(Answer::Reconcile(response)) => response.error_code,
            Ok(Answer::Layout(_) | Answer::Names(_)) => 0,
            Err(_) => return self.group.forget_coordinator(),
        };
        let code = ErrorCode::from_wire(code);
        if matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) {
            self.group.forget_coordinator();
        }
    }

    /// Looks at the topics from time to time: what a pattern matches, and how many partitions there are.
    fn look(&mut self, now: Duration) {
        if self.looking.is_some() || now < self.look_again {
            return;
        }
        let age = self.group.cluster().options().metadata_age_max;
        self.look_again = now + age.max(Duration::from_millis(100));
        let (group, subscription) = (self.group.clone(), self.subscription.clone());
        let watched = self.protocol.watched();
        self.looking = Some(Box::pin(async move { look_at_topics(&group, &subscription, watched).await }));
    }

    async fn say_goodbye(self) {
        if let Some(goodbye) = self.protocol.goodbye().filter(|_| !self.is_paused) {
            send_goodbye(&self.group, goodbye).await;
        }
    }
}

/// What a future in a slot comes to; never where there is none.
async fn there<T>(slot: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn event(told: Told) -> MembershipEvent {
    let partitions = |parts: Vec<Part>| {
        // A name that no topic can have is in no log that could be read.
        let partition =
            |(topic, partition): Part| Some(TopicPartition::new(TopicName::new(&topic).ok()?, partition));
        parts.into_iter().filter_map(partition).collect()
    };
    match told {
        Told::Assigned(parts) => MembershipEvent::Assigned(partitions(parts)),
        Told::Revoke(parts) => MembershipEvent::Revoked(partitions(parts)),
        Told::Lost(parts) => MembershipEvent::Lost(partitions(parts)),
    }
}

fn ask(group: Group, question: Question, patience: Duration) -> Asking {
    Box::pin(async move {
        let request_timeout = group.cluster().options().request_timeout;
        // Joining and syncing wait for other members.
        let long = request_timeout.max(patience.saturating_add(JOIN_GRACE));
        Ok(match question {
            Question::Join(request) => Answer::Join(at_coordinator(&group, &request, long).await?),
            Question::Sync(request) => Answer::Sync(at_coordinator(&group, &request, long).await?),
            Question::Heartbeat(request) => {
                Answer::Heartbeat(at_coordinator(&group, &request, request_timeout).await?)
            }
            Question::Reconcile(request) => {
                Answer::Reconcile(at_coordinator(&group, &request, request_timeout).await?)
            }
            Question::Layout(topics) => Answer::Layout(layout_of(&group, &topics).await?),
            Question::Names(ids) => Answer::Names(names_of(&group, ids).await?),
        })
    })
}

async fn at_coordinator<R: Request>(
    group: &Group,
    request: &R,
    timeout: Duration,
) -> Result<R::Response, ClientError> {
    let connection = group.connection(Lane::Group).await?;
    let version = connection.version_of::<R>(i16::MAX)?;
    group.answer(&connection, connection.start(request, version, timeout)?).await
}

async fn layout_of(group: &Group, topics: &[Arc<str>]) -> Result<Layout, ClientError> {
    if topics.is_empty() {
        return Ok(Layout::new());
    }
    let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    let metadata = group.cluster().metadata(Topics::Named { names: &names, create: false }).await?;
    Ok(partition_counts(&metadata, |topic| topics.iter().any(|wanted| **wanted == *topic)))
}

/// Partitions are counted where the topic can be used.
fn partition_counts(metadata: &ClusterMetadata, is_meant: impl Fn(&str) -> bool) -> Layout {
    let usable =
        metadata.topics.iter().filter(|(name, topic)| topic.error == ErrorCode::None && is_meant(name));
    usable
        .map(|(name, topic)| {
            (name.as_str().into(), i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))
        })
        .collect()
}

async fn names_of(group: &Group, ids: Vec<Uuid>) -> Result<BTreeMap<Uuid, Arc<str>>, ClientError> {
    let topics = ids.iter().map(|&topic_id| MetadataRequestTopic { topic_id, ..Default::default() });
    let request = MetadataRequest { topics: Some(topics.collect()), ..Default::default() };
    let response = group.cluster().any(&request).await?;
    let named = response.topics.iter().filter(|topic| topic.error_code == 0);
    Ok(named.filter_map(|topic| Some((topic.topic_id, (&**topic.name.as_ref()?).into()))).collect())
}

/// What is subscribed to now; `None` where nobody says, for now.
async fn look_at_topics(
    group: &Group,
    subscription: &Subscription,
    watched: Vec<Arc<str>>,
) -> Option<(BTreeSet<Arc<str>>, Layout)> {
    let mut topics = subscription.topics.clone();
    if let Some(pattern) = &subscription.pattern {
        let metadata = group.cluster().metadata(Topics::All).await.ok()?;
        let is_meant = |name: &str| {
            let is_internal = metadata.topics.get(name).is_some_and(|topic| topic.is_internal);
            !(is_internal && subscription.excludes_internal) && pattern.is_match(name)
        };
        topics.extend(partition_counts(&metadata, is_meant).into_keys());
        let layout =
            partition_counts(&metadata, |name| topics.contains(name) || watched.iter().any(|w| **w == *name));
        return Some((topics, layout));
    }
    let all: Vec<Arc<str>> = topics.iter().cloned().chain(watched).collect();
    let layout = layout_of(group, &all).await.ok()?;
    Some((topics, layout))
}

/// Leaves by another connection than the one where a join may be waiting; what cannot be said in time is left to the
/// session's end.
async fn send_goodbye(group: &Group, goodbye: Goodbye) {
    let clock = Arc::clone(&group.cluster().options().clock);
    let saying = async {
        let connection = group.connection(Lane::Requests).await?;
        match goodbye {
            Goodbye::Classic(request) => {
                let version = connection.version_of::<LeaveGroupRequest>(i16::MAX)?;
                let request = in_version(request, version);
                connection.start(&request, version, GOODBYE_TIMEOUT)?.answer().await.map(|_| ())?;
            }
            Goodbye::Reconciling(request) => connection.call(&request).await.map(|_| ())?,
        }
        Ok::<(), ClientError>(())
    };
    tokio::select! {
        // Either way the member is gone: the coordinator notices in time.
        _ = saying => {}
        () = clock.wait(GOODBYE_TIMEOUT) => {}
    }
}

fn in_version(mut request: LeaveGroupRequest, version: i16) -> LeaveGroupRequest {
    match version >= LEAVE_SEVERAL_FROM {
        true => request.member_id = Str::empty(),
        false => request.members.clear(),
    }
    request
}
