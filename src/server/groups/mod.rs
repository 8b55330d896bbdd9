//! The group coordinators of this broker: a shard for each partition of `__consumer_offsets` that it leads.
//!
//! A request is decided under its shard's lock, its records go to the page cache there and then, and its answer is
//! given when everything that the shard has appended is committed. What fails to be appended costs the shard: it
//! is loaded again from its log, and whoever waited is told to look for its coordinator again.

mod admin;
mod consumer;
mod find;
mod load;
mod membership;
mod offsets;
mod slot;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tracing::info;

pub use admin::{delete, describe, list};
pub use consumer::{describe as describe_consumer, heartbeat as heartbeat_consumer};
pub use find::find;
pub use membership::{heartbeat, join, leave, sync};
pub use offsets::{commit, delete as delete_offsets, fetch};

use super::call::Call;
use super::node::Node;
use crate::coordinator::{Answer, Asked, Client, Now, Request, Token, TopicChanges, group_partition};
use crate::metadata::Image;
use crate::net::Reply;
use crate::protocol::{ErrorCode, Message, Str};
use crate::types::{LeaderEpoch, Uuid};
use slot::Slot;

/// The topic of groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// How long nothing waits for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a coordinator says, or why it does not.
pub type Outcome = Result<Answer, ErrorCode>;

/// An outcome that is there, or to come.
pub enum Asking {
    /// There.
    Now(Outcome),
    /// To come.
    Later(Pin<Box<dyn Future<Output = Outcome> + Send>>),
}

impl Asking {
    /// Waits for it.
    pub async fn outcome(self) -> Outcome {
        match self {
            Self::Now(outcome) => outcome,
            Self::Later(future) => future.await,
        }
    }
}

/// The coordinators of this broker.
#[derive(Default)]
pub struct Groups {
    slots: RwLock<HashMap<i32, Arc<Slot>>>,
    /// The image that was followed last.
    followed: Mutex<Option<Arc<Image>>>,
    next_token: AtomicU64,
    /// A deadline has come nearer.
    wake: Notify,
}

impl Groups {
    /// Takes up the partitions that this broker has come to lead, drops those that it leads no longer, and tells
    /// groups what became of their topics. Loading goes on in the background. Returns the image that was followed.
    pub fn follow(self: &Arc<Self>, node: &Arc<Node>) -> Arc<Image> {
        let mut followed = self.followed.lock();
        let image = node.image();
        let before = followed.replace(Arc::clone(&image));
        // Also where the image is the same: its partitions may have been made only now.
        self.take_up(node, &image);
        let changes = match before {
            Some(before) if !Arc::ptr_eq(&before, &image) => TopicChanges::between(&before, &image),
            _ => TopicChanges::default(),
        };
        if !changes.is_empty() {
            for slot in self.all() {
                slot.follow(node, &changes);
            }
        }
        image
    }

    /// The newest image, which groups have followed by now: what is committed for a topic of it goes with the topic.
    pub fn newest_image(self: &Arc<Self>, node: &Arc<Node>) -> Arc<Image> {
        let known = self.followed.lock().clone();
        let known = known.filter(|known| Arc::ptr_eq(known, &node.image()));
        known.unwrap_or_else(|| self.follow(node))
    }

    fn take_up(self: &Arc<Self>, node: &Arc<Node>, image: &Image) {
        let mut fresh = Vec::new();
        let mut slots = self.slots.write();
        let topic = image.topic(OFFSETS_TOPIC);
        let ours = |index: i32| {
            let partition = topic?.partitions.get(&index)?;
            (partition.leader == node.id.0).then_some(LeaderEpoch(partition.leader_epoch))
        };
        slots.retain(|index, slot| {
            let is_same = topic.is_some_and(|topic| topic.id == slot.partition.topic_id());
            let is_kept = is_same && ours(*index) == Some(slot.epoch);
            if !is_kept {
                slot.unload(ErrorCode::NotCoordinator);
            }
            is_kept
        });
        for index in topic.into_iter().flat_map(|topic| topic.partitions.keys().copied()) {
            let Some(epoch) = ours(index) else { continue };
            let Ok(partition) = node.partition(OFFSETS_TOPIC, index) else { continue };
            if partition.leader_epoch() != epoch || !partition.is_leader() {
                // It is not in office yet: its log is read when it is.
                continue;
            }
            slots.entry(index).or_insert_with(|| {
                let slot = Arc::new(Slot::new(epoch, partition));
                fresh.push(Arc::clone(&slot));
                slot
            });
        }
        drop(slots);
        load::load_all(node, fresh);
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.read().values().cloned().collect()
    }

    /// The coordinator of a group.
    fn of_group(&self, node: &Node, group_id: &str) -> Result<Arc<Slot>, ErrorCode> {
        let image = node.image();
        let topic = image.topic(OFFSETS_TOPIC).ok_or(ErrorCode::NotCoordinator)?;
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let slot = self.slots.read().get(&group_partition(group_id, partitions)).cloned();
        slot.ok_or(ErrorCode::NotCoordinator)
    }

    /// Asks the coordinator of a group.
    pub fn ask(
        &self,
        node: &Arc<Node>,
        group_id: &str,
        client: Client,
        version: i16,
        request: Request,
    ) -> Asking {
        match self.of_group(node, group_id) {
            Ok(slot) => {
                let token = Token(self.next_token.fetch_add(1, Ordering::Relaxed));
                slot.ask(node, Asked { token, client, version, request })
            }
            Err(code) => Asking::Now(Err(code)),
        }
    }

    /// A deadline has come nearer.
    fn wake(&self) {
        self.wake.notify_one();
    }
}

/// Does what is due by the clock, for as long as the broker runs: sessions, rebalances, expiry of offsets.
pub async fn run(node: Arc<Node>) {
    info!("groups are coordinated");
    loop {
        let slots = node.groups.all();
        let next_ms = slots.iter().filter_map(|slot| slot.next_deadline_ms()).min();
        let now = node.clock.elapsed();
        let due = next_ms.map(|next_ms| Duration::from_millis(u64::try_from(next_ms).unwrap_or(0)));
        let due = due.unwrap_or(now + LONGEST_WAIT).min(now + LONGEST_WAIT);
        tokio::select! {
            () = node.groups.wake.notified() => {}
            () = node.clock.wait_until(due) => {}
        }
        let now_ms = now_of(&node).timer_ms;
        for slot in node.groups.all() {
            if slot.next_deadline_ms().is_some_and(|due_ms| due_ms <= now_ms) {
                slot.tick(&node);
            }
        }
    }
}

/// Both clocks.
fn now_of(node: &Node) -> Now {
    let timer_ms = i64::try_from(node.clock.elapsed().as_millis()).unwrap_or(i64::MAX);
    Now { wall_ms: node.clock.now_ms(), timer_ms }
}

/// An id for a member.
fn draw_id() -> Uuid {
    let mut bytes = [0; 16];
    assert!(getrandom::fill(&mut bytes).is_ok(), "the system gives randomness");
    Uuid::from_random_bytes(bytes)
}

/// Who asks, as members are described.
fn client_of(call: &Call) -> Client {
    let host = call.peer.ip.map(|ip| format!("/{ip}")).unwrap_or_default();
    Client { id: call.client_id(), host: Str::from(host) }
}

/// Answers a request once its coordinator has.
fn answer<M: Message + Send + 'static>(
    mut call: Call,
    asking: Asking,
    finish: impl FnOnce(Outcome) -> M + Send + 'static,
) -> Reply {
    match asking {
        Asking::Now(outcome) => call.reply(&finish(outcome)),
        Asking::Later(future) => {
            call.forget_frame();
            Reply::Later(Box::pin(async move {
                let outcome = future.await;
                call.answer(&finish(outcome))
            }))
        }
    }
}

/// Answers a request once all coordinators that it is for have.
fn answer_all<T: Send + 'static, M: Message + Send + 'static>(
    mut call: Call,
    asked: Vec<(T, Asking)>,
    finish: impl FnOnce(Vec<(T, Outcome)>) -> M + Send + 'static,
) -> Reply {
    call.forget_frame();
    if asked.iter().all(|(_, asking)| matches!(asking, Asking::Now(_))) {
        let outcomes = asked.into_iter().filter_map(|(of, asking)| match asking {
            Asking::Now(outcome) => Some((of, outcome)),
            Asking::Later(_) => None,
        });
        return call.reply(&finish(outcomes.collect()));
    }
    Reply::Later(Box::pin(async move {
        let mut outcomes = Vec::with_capacity(asked.len());
        for (of, asking) in asked {
            outcomes.push((of, asking.outcome().await));
        }
        call.answer(&finish(outcomes))
    }))
}
