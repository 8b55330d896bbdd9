//! What an idle member costs its coordinator.

use std::sync::Arc;

use klamm::config::GroupSettings;
use klamm::coordinator::{Answer, Asked, Client, Now, Request, Shard, Surroundings, Token};
use klamm::metadata::Image;
use klamm::protocol::Str;
use klamm::protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use klamm::protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use klamm::protocol::messages::partition_record::PartitionRecord;
use klamm::protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use klamm::protocol::messages::topic_record::TopicRecord;
use klamm::types::{LeaderEpoch, Offset, Uuid};

use crate::allocation::kept_by;

const MEMBERS: usize = 500;
const BYTES_MAX: usize = 4096;

struct Coordinator {
    shard: Shard,
    image: Arc<Image>,
    settings: GroupSettings,
    now_ms: i64,
    token: u64,
    answers: Vec<(Token, Answer)>,
}

impl Coordinator {
    /// With a topic of so many partitions.
    fn new(partitions: usize) -> Self {
        let mut settings = GroupSettings::default();
        settings.initial_rebalance_delay_ms = 0;
        let (shard, image) = (Shard::new(), Arc::new(image(partitions)));
        Self { shard, image, settings, now_ms: 1_000_000, token: 0, answers: Vec::new() }
    }
}

impl Coordinator {
    fn heartbeat(&mut self, group: &str, member: usize, epoch: i32) -> i32 {
        let joins = epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group.into(),
            member_id: format!("member-{member:015}").into(),
            member_epoch: epoch,
            rebalance_timeout_ms: if joins { 60_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec![Str::from("topic")]),
            topic_partitions: joins.then(Vec::new),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        match self.ask(1, Request::ConsumerGroupHeartbeat(request)) {
            Some(Answer::ConsumerGroupHeartbeat(response)) if response.error_code == 0 => {
                response.member_epoch
            }
            other => panic!("{other:?}"),
        }
    }

    /// The answer, if it comes at once.
    fn ask(&mut self, version: i16, request: Request) -> Option<Answer> {
        self.now_ms += 1;
        let client = Client { id: "consumer-group-1".into(), host: "/127.0.0.1".into() };
        self.token += 1;
        let asked = Asked { token: Token(self.token), client, version, request };
        let answered = self.call(|shard, around| shard.handle(around, asked).answers);
        self.answers.extend(answered);
        // A rebalance that waits for nobody ends with the clock's next look.
        while let Some(effects) = self.call(Shard::tick) {
            self.answers.extend(effects.answers);
        }
        let at = self.answers.iter().position(|(token, _)| *token == Token(self.token))?;
        Some(self.answers.swap_remove(at).1)
    }

    fn call<R>(&mut self, act: impl FnOnce(&mut Shard, Surroundings<'_>) -> R) -> R {
        let id = Uuid(u128::from(self.token).to_be_bytes());
        let mut draw_id = || id;
        let around = Surroundings {
            now: Now { wall_ms: self.now_ms, timer_ms: self.now_ms },
            image: &self.image,
            settings: &self.settings,
            record_bytes_max: 1 << 20,
            draw_id: &mut draw_id,
        };
        act(&mut self.shard, around)
    }

    /// Joins a classic group alone and is given an assignment.
    fn join_alone(&mut self, group: &str) {
        let mut subscription = vec![0, 0, 0, 0, 0, 1, 0, 5];
        subscription.extend(b"topic");
        subscription.extend([0xff; 4]);
        let protocols = ["range", "cooperative-sticky"].map(|name| JoinGroupRequestProtocol {
            name: name.into(),
            metadata: subscription.clone().into(),
            ..JoinGroupRequestProtocol::default()
        });
        let request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
            protocol_type: "consumer".into(),
            protocols: protocols.to_vec(),
            ..JoinGroupRequest::default()
        };
        let Some(Answer::JoinGroup(joined)) = self.ask(3, Request::JoinGroup(request)) else {
            panic!("it waits for nobody")
        };
        let given = SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: vec![0; 60].into(),
            ..SyncGroupRequestAssignment::default()
        };
        let request = SyncGroupRequest {
            group_id: group.into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id,
            assignments: vec![given],
            ..SyncGroupRequest::default()
        };
        let synced = self.ask(3, Request::SyncGroup(request));
        assert!(matches!(synced, Some(Answer::SyncGroup(synced)) if synced.error_code == 0));
    }
}

fn image(partitions: usize) -> Image {
    let topic_id = Uuid::ONE;
    let mut builder = Image::default().builder();
    builder.apply(TopicRecord { name: "topic".into(), topic_id, ..TopicRecord::default() }.into()).unwrap();
    for partition_id in 0..i32::try_from(partitions).unwrap() {
        let directories = vec![Uuid::ONE];
        let (replicas, isr) = (vec![1], vec![1]);
        let record = PartitionRecord {
            partition_id,
            topic_id,
            replicas,
            isr,
            leader: 1,
            directories,
            ..Default::default()
        };
        builder.apply(record.into()).unwrap();
    }
    builder.finish(Offset(1), LeaderEpoch(1))
}

#[test]
fn an_idle_member_of_a_consumer_group_costs_less_than_4_kib() {
    let mut coordinator = Coordinator::new(MEMBERS);
    let ((), kept) = kept_by(|| {
        let mut epochs: Vec<i32> =
            (0..MEMBERS).map(|member| coordinator.heartbeat("group", member, 0)).collect();
        coordinator.now_ms += 2_000;
        for _ in 0..3 {
            for (member, epoch) in epochs.iter_mut().enumerate().skip(1) {
                *epoch = coordinator.heartbeat("group", member, *epoch);
            }
        }
    });
    let each = kept / MEMBERS;
    assert!(each <= BYTES_MAX, "{each} bytes a member");
    assert!(each > 100, "{each} bytes a member cannot be");
}

/// Each in a group of its own, which is what most groups are.
fn lone(name: &str, join: impl Fn(&mut Coordinator, &str)) {
    let mut coordinator = Coordinator::new(4);
    let groups: Vec<String> = (0..2_000).map(|group| format!("group-{group:06}")).collect();
    let ((), kept) = kept_by(|| groups.iter().for_each(|group| join(&mut coordinator, group)));
    let each = kept / groups.len();
    assert!((100..=BYTES_MAX).contains(&each), "{name}: {each} bytes a group of one");
}

#[test]
fn an_idle_member_alone_in_its_group_costs_less_than_4_kib_with_the_group() {
    lone("classic", Coordinator::join_alone);
    lone("consumer", |coordinator, group| {
        coordinator.heartbeat(group, 0, 0);
    });
}
