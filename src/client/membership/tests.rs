//! Membership and offsets against a scripted coordinator, over a real connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::fake::{Asked, Fake, Reply};
use super::super::{ClientOptions, Cluster};
use super::*;
use crate::protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use crate::protocol::messages::heartbeat_response::HeartbeatResponse;
use crate::protocol::messages::join_group_request::JoinGroupRequest;
use crate::protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use crate::protocol::messages::leave_group_response::LeaveGroupResponse;
use crate::protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::offset_commit_request::OffsetCommitRequest;
use crate::protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use crate::protocol::messages::sync_group_request::SyncGroupRequest;
use crate::protocol::messages::sync_group_response::SyncGroupResponse;
use crate::protocol::{ApiKey, ErrorCode};
use crate::types::TopicName;

/// A group of one: whoever joins leads, in a new generation each time.
#[derive(Default)]
struct Coordinator1 {
    joins: AtomicUsize,
    heartbeats: AtomicUsize,
    /// The first so many joins are told that the coordinator is elsewhere.
    is_elsewhere: usize,
    /// Every heartbeat says that the group rebalances, in the first generation.
    rebalances: bool,
    left: tokio::sync::Notify,
}

impl Coordinator1 {
    fn reply(&self, mut asked: Asked) -> Reply {
        match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            ApiKey::Metadata => asked.answer(&metadata()),
            ApiKey::FindCoordinator => {
                let found = Coordinator { key: "g".into(), node_id: 1, ..Default::default() };
                asked.answer(&FindCoordinatorResponse { coordinators: vec![found], ..Default::default() })
            }
            ApiKey::JoinGroup => {
                let nth = self.joins.fetch_add(1, Ordering::SeqCst);
                let request: JoinGroupRequest = asked.read();
                asked.answer(&self.joined(nth, &request))
            }
            ApiKey::SyncGroup => {
                let request: SyncGroupRequest = asked.read();
                let assignment = request.assignments[0].assignment.clone();
                asked.answer(&SyncGroupResponse { assignment, ..Default::default() })
            }
            ApiKey::Heartbeat => {
                self.heartbeats.fetch_add(1, Ordering::SeqCst);
                let is_first = self.joins.load(Ordering::SeqCst) <= 2;
                let code = if self.rebalances && is_first {
                    ErrorCode::RebalanceInProgress
                } else {
                    ErrorCode::None
                };
                asked.answer(&HeartbeatResponse { error_code: code.code(), ..Default::default() })
            }
            ApiKey::LeaveGroup => {
                self.left.notify_one();
                asked.answer(&LeaveGroupResponse::default())
            }
            other => panic!("{other:?} was not expected"),
        }
    }

    fn joined(&self, nth: usize, request: &JoinGroupRequest) -> JoinGroupResponse {
        if nth < self.is_elsewhere {
            return JoinGroupResponse { error_code: ErrorCode::NotCoordinator.code(), ..Default::default() };
        }
        if request.member_id.is_empty() {
            let error_code = ErrorCode::MemberIdRequired.code();
            return JoinGroupResponse { error_code, member_id: "m".into(), ..Default::default() };
        }
        let metadata = request.protocols[0].metadata.clone();
        JoinGroupResponse {
            generation_id: i32::try_from(nth).unwrap(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some(request.protocols[0].name.clone()),
            leader: "m".into(),
            member_id: "m".into(),
            members: vec![JoinGroupResponseMember { member_id: "m".into(), metadata, ..Default::default() }],
            ..Default::default()
        }
    }
}

fn metadata() -> MetadataResponse {
    let partitions = (0..2).map(|partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        ..Default::default()
    });
    let topic = MetadataResponseTopic {
        name: Some("t".into()),
        partitions: partitions.collect(),
        ..Default::default()
    };
    let brokers = vec![MetadataResponseBroker { node_id: 1, ..Default::default() }];
    MetadataResponse { brokers, controller_id: 1, topics: vec![topic], ..Default::default() }
}

async fn group(script: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> Group {
    let cluster = Cluster::connect(Fake::bootstrap(script), ClientOptions::default()).await.unwrap();
    Group::new(&cluster, "g")
}

fn join(group: &Group) -> Membership {
    let subscription = Subscription { topics: BTreeSet::from(["t".into()]), ..Default::default() };
    let options = GroupOptions { heartbeat_interval: Duration::from_millis(1), ..Default::default() };
    Membership::join(group, subscription, &options, "", "id")
}

fn partitions(event: MembershipEvent) -> (&'static str, Vec<i32>) {
    let numbers = |partitions: Vec<TopicPartition>| partitions.iter().map(|one| one.partition).collect();
    match event {
        MembershipEvent::Assigned(partitions) => ("assigned", numbers(partitions)),
        MembershipEvent::Revoked(partitions) => ("revoked", numbers(partitions)),
        MembershipEvent::Lost(partitions) => ("lost", numbers(partitions)),
        MembershipEvent::Failed(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_member_joins_rebalances_and_takes_leave() {
    let coordinator = Arc::new(Coordinator1 { rebalances: true, ..Default::default() });
    let script = Arc::clone(&coordinator);
    let group = group(move |asked| script.reply(asked)).await;
    let mut membership = join(&group);
    assert_eq!(partitions(membership.next().await), ("assigned", vec![0, 1]));
    assert_eq!(membership.identity().generation_or_epoch, 1);
    assert_eq!(partitions(membership.next().await), ("revoked", vec![0, 1]));
    // Until the reader has let go, the member does not join again.
    assert_eq!(coordinator.joins.load(Ordering::SeqCst), 2);
    membership.released();
    assert_eq!(partitions(membership.next().await), ("assigned", vec![0, 1]));
    assert_eq!(membership.identity().generation_or_epoch, 2);
    membership.leave().await;
    coordinator.left.notified().await;
}

#[tokio::test]
async fn a_coordinator_that_moved_is_found_again() {
    let coordinator = Arc::new(Coordinator1 { is_elsewhere: 2, ..Default::default() });
    let script = Arc::clone(&coordinator);
    let group = group(move |asked| script.reply(asked)).await;
    let mut membership = join(&group);
    assert_eq!(partitions(membership.next().await), ("assigned", vec![0, 1]));
    assert_eq!(coordinator.joins.load(Ordering::SeqCst), 4);
}

fn offset_fetch(asked: &Asked, group_code: ErrorCode) -> Reply {
    let partition = |partition_index, committed_offset, code: ErrorCode| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset,
        committed_leader_epoch: 3,
        metadata: Some("note".into()),
        error_code: code.code(),
        ..Default::default()
    };
    let partitions = vec![
        partition(0, 42, ErrorCode::None),
        partition(1, -1, ErrorCode::None),
        partition(2, -1, ErrorCode::TopicAuthorizationFailed),
    ];
    let topic = OffsetFetchResponseTopics { name: "t".into(), partitions, ..Default::default() };
    let group = OffsetFetchResponseGroup {
        group_id: "g".into(),
        topics: vec![topic],
        error_code: group_code.code(),
        ..Default::default()
    };
    asked.answer(&OffsetFetchResponse { groups: vec![group], ..Default::default() })
}

fn offset_commit(asked: &mut Asked, code: impl Fn(i32) -> ErrorCode) -> Reply {
    let request: OffsetCommitRequest = asked.read();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: code(partition.partition_index).code(),
            ..Default::default()
        });
        OffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    asked.answer(&OffsetCommitResponse { topics: topics.collect(), ..Default::default() })
}

#[tokio::test]
async fn offsets_are_read_and_committed_once_the_coordinator_is_ready() {
    let nth = AtomicUsize::new(0);
    let coordinator = Coordinator1::default();
    let group = group(move |mut asked: Asked| {
        let is_ready = || nth.fetch_add(1, Ordering::SeqCst) > 0;
        match asked.key() {
            ApiKey::OffsetFetch if is_ready() => offset_fetch(&asked, ErrorCode::None),
            ApiKey::OffsetFetch => offset_fetch(&asked, ErrorCode::CoordinatorLoadInProgress),
            ApiKey::OffsetCommit => offset_commit(&mut asked, |partition| match partition {
                1 => ErrorCode::OffsetMetadataTooLarge,
                _ => ErrorCode::None,
            }),
            _ => coordinator.reply(asked),
        }
    })
    .await;
    let partition = |number| TopicPartition::new(TopicName::new("t").unwrap(), number);
    let found = group.committed(None, true).await.unwrap();
    let expected = Committed { offset: 42, leader_epoch: 3, metadata: "note".into() };
    assert_eq!(found[&partition(0)], Ok(expected.clone()));
    assert!(!found.contains_key(&partition(1)), "nothing is committed there");
    assert_eq!(found[&partition(2)], Err(ErrorCode::TopicAuthorizationFailed));
    let due = [(partition(0), expected.clone()), (partition(1), expected)].into();
    let outcomes = group.commit(&Identity::default(), &due).await.unwrap();
    assert_eq!(outcomes[&partition(0)], ErrorCode::None);
    assert_eq!(outcomes[&partition(1)], ErrorCode::OffsetMetadataTooLarge);
}
