//! What an idle member costs its coordinator.

use std::sync::Arc;

use klamm::config::GroupSettings;
use klamm::coordinator::{Answer, Asked, Client, Now, Request, Shard, Surroundings, Token};
use klamm::metadata::Image;
use klamm::protocol::Str;
use klamm::protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use klamm::protocol::messages::partition_record::PartitionRecord;
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
}

impl Coordinator {
    fn heartbeat(&mut self, member: usize, epoch: i32) -> i32 {
        let joins = epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "group".into(),
            member_id: format!("member-{member:015}").into(),
            member_epoch: epoch,
            rebalance_timeout_ms: if joins { 60_000 } else { -1 },
            subscribed_topic_names: joins.then(|| vec![Str::from("topic")]),
            topic_partitions: joins.then(Vec::new),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let mut draw_id = || Uuid::ONE;
        let around = Surroundings {
            now: Now { wall_ms: self.now_ms, timer_ms: self.now_ms },
            image: &self.image,
            settings: &self.settings,
            record_bytes_max: 1 << 20,
            draw_id: &mut draw_id,
        };
        let client = Client { id: "consumer-group-1".into(), host: "/127.0.0.1".into() };
        let request = Request::ConsumerGroupHeartbeat(request);
        let asked = Asked { token: Token(1), client, version: 1, request };
        match self.shard.handle(around, asked).answers.pop() {
            Some((_, Answer::ConsumerGroupHeartbeat(response))) if response.error_code == 0 => {
                response.member_epoch
            }
            other => panic!("{other:?}"),
        }
    }
}

fn image() -> Image {
    let topic_id = Uuid::ONE;
    let mut builder = Image::default().builder();
    builder.apply(TopicRecord { name: "topic".into(), topic_id, ..TopicRecord::default() }.into()).unwrap();
    for partition_id in 0..i32::try_from(MEMBERS).unwrap() {
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
    let settings = GroupSettings::default();
    let mut coordinator =
        Coordinator { shard: Shard::new(), image: Arc::new(image()), settings, now_ms: 1_000_000 };
    let ((), kept) = kept_by(|| {
        let mut epochs: Vec<i32> = (0..MEMBERS).map(|member| coordinator.heartbeat(member, 0)).collect();
        coordinator.now_ms += 2_000;
        for _ in 0..3 {
            for (member, epoch) in epochs.iter_mut().enumerate().skip(1) {
                *epoch = coordinator.heartbeat(member, *epoch);
            }
        }
    });
    let each = kept / MEMBERS;
    assert!(each <= BYTES_MAX, "{each} bytes a member");
    assert!(each > 100, "{each} bytes a member cannot be");
}
