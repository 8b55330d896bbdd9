//! Groups as clients see them over a connection: the classic protocol in every version, committed offsets, what
//! administrators ask, and what bad input is told.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use klamm::coordinator::{ClassicState, Group, Shard, replay};
use klamm::protocol::messages::consumer_group_describe_request::ConsumerGroupDescribeRequest;
use klamm::protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use klamm::protocol::messages::delete_groups_request::DeleteGroupsRequest;
use klamm::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use klamm::protocol::messages::describe_groups_request::DescribeGroupsRequest;
use klamm::protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use klamm::protocol::messages::heartbeat_request::HeartbeatRequest;
use klamm::protocol::messages::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use klamm::protocol::messages::join_group_response::JoinGroupResponse;
use klamm::protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use klamm::protocol::messages::list_groups_request::ListGroupsRequest;
use klamm::protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use klamm::protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use klamm::protocol::messages::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use klamm::protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use klamm::protocol::{Request, Str};
use klamm::types::{Offset, Uuid};

use crate::harness::{Client, TestBroker, name_of};

/// A broker whose first rebalances wait for nobody.
async fn broker() -> TestBroker {
    TestBroker::with(1, &[("group.initial.rebalance.delay.ms", "0")]).await
}

async fn ready(broker: &TestBroker) -> Client {
    let mut client = broker.connect();
    let keys = vec![Str::from("g")];
    let request = FindCoordinatorRequest { coordinator_keys: keys, ..FindCoordinatorRequest::default() };
    let found = client.ask_latest(&request).await;
    assert_eq!((found.coordinators[0].error_code, found.coordinators[0].node_id), (0, 1));
    client
}

fn join(group: &str, member: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: Str::from(group),
        member_id: Str::from(member),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: Str::from("consumer"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Str::from("range"),
            metadata: subscription(&["t"]),
            ..JoinGroupRequestProtocol::default()
        }],
        ..JoinGroupRequest::default()
    }
}

/// What a consumer says it reads.
fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.into()
}

/// Joins as a new member, with the id that it is given where one is asked for.
async fn join_new(client: &mut Client, version: i16, group: &str) -> JoinGroupResponse {
    let first = client.ask(version, &join(group, "")).await;
    if version < 4 {
        return first;
    }
    assert_eq!(name_of(first.error_code), "MEMBER_ID_REQUIRED");
    client.ask(version, &join(group, &first.member_id)).await
}

fn sync(group: &str, joined: &JoinGroupResponse, assignments: &[(&Str, &'static [u8])]) -> SyncGroupRequest {
    let assignment = |(member_id, bytes): &(&Str, &'static [u8])| SyncGroupRequestAssignment {
        member_id: (*member_id).clone(),
        assignment: Bytes::from_static(bytes),
        ..SyncGroupRequestAssignment::default()
    };
    SyncGroupRequest {
        group_id: Str::from(group),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some(Str::from("consumer")),
        protocol_name: Some(Str::from("range")),
        assignments: assignments.iter().map(assignment).collect(),
        ..SyncGroupRequest::default()
    }
}

/// A member that is alone in its group, and synced.
async fn member(client: &mut Client, group: &str) -> JoinGroupResponse {
    let joined = join_new(client, 9, group).await;
    assert_eq!(name_of(joined.error_code), "NONE");
    let synced = client.ask_latest(&sync(group, &joined, &[(&joined.member_id, b"mine")])).await;
    assert_eq!((name_of(synced.error_code), &synced.assignment[..]), ("NONE", &b"mine"[..]));
    joined
}

fn commit(group: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    commit_as(group, &JoinGroupResponse::default(), partition, offset, "")
}

fn commit_as(
    group: &str,
    joined: &JoinGroupResponse,
    partition: i32,
    offset: i64,
    note: &str,
) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: partition,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: Some(Str::from(note)),
        ..OffsetCommitRequestPartition::default()
    };
    OffsetCommitRequest {
        group_id: Str::from(group),
        generation_id_or_member_epoch: joined.generation_id,
        member_id: joined.member_id.clone(),
        topics: vec![OffsetCommitRequestTopic {
            name: Str::from("t"),
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

async fn try_commit(client: &mut Client, request: &OffsetCommitRequest) -> &'static str {
    name_of(client.ask(9, request).await.topics[0].partitions[0].error_code)
}

/// The committed offsets of `t`, by partition.
async fn fetch(client: &mut Client, group: &str) -> Vec<(i32, i64)> {
    let group = OffsetFetchRequestGroup {
        group_id: Str::from(group),
        topics: None,
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() };
    let response = client.ask(9, &request).await;
    assert_eq!(response.groups[0].error_code, 0);
    let partitions = response.groups[0].topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| (partition.partition_index, partition.committed_offset)).collect()
}

async fn state_of(client: &mut Client, group: &str) -> String {
    let request =
        DescribeGroupsRequest { groups: vec![Str::from(group)], ..DescribeGroupsRequest::default() };
    client.ask_latest(&request).await.groups[0].group_state.to_string()
}

fn versions<R: Request>() -> std::ops::RangeInclusive<i16> {
    R::KEY.api().versions()
}

#[tokio::test]
async fn a_member_joins_syncs_beats_and_leaves_in_every_version() {
    let broker = broker().await;
    let mut client = ready(&broker).await;
    for version in versions::<JoinGroupRequest>() {
        let group = format!("g{version}");
        let joined = join_new(&mut client, version, &group).await;
        assert_eq!(name_of(joined.error_code), "NONE", "{version}");
        assert_eq!((joined.generation_id, &joined.leader), (1, &joined.member_id));
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
        assert_eq!(joined.members.len(), 1);
        let of = |highest: i16| version.min(highest);
        let synced = client.ask(of(5), &sync(&group, &joined, &[(&joined.member_id, b"mine")])).await;
        assert_eq!((name_of(synced.error_code), &synced.assignment[..]), ("NONE", &b"mine"[..]));
        let (group_id, member_id) = (Str::from(group.as_str()), joined.member_id.clone());
        let beat = HeartbeatRequest {
            group_id: group_id.clone(),
            generation_id: 1,
            member_id: member_id.clone(),
            ..HeartbeatRequest::default()
        };
        assert_eq!(name_of(client.ask(of(4), &beat).await.error_code), "NONE");
        let stale = HeartbeatRequest { generation_id: 7, ..beat };
        assert_eq!(name_of(client.ask(of(4), &stale).await.error_code), "ILLEGAL_GENERATION");
        let leave = match of(5) {
            ..3 => LeaveGroupRequest { group_id, member_id, ..LeaveGroupRequest::default() },
            _ => LeaveGroupRequest {
                group_id,
                members: vec![MemberIdentity { member_id, ..MemberIdentity::default() }],
                ..LeaveGroupRequest::default()
            },
        };
        for expected in ["NONE", "UNKNOWN_MEMBER_ID"] {
            let left = client.ask(of(5), &leave).await;
            let code = left.members.first().map_or(left.error_code, |member| member.error_code);
            assert_eq!((name_of(code), left.members.len()), (expected, usize::from(of(5) >= 3)));
        }
        assert_eq!(state_of(&mut client, &group).await, "Empty");
    }
}

#[tokio::test]
async fn members_share_a_group_and_each_gets_what_the_leader_gave_it() {
    let broker = broker().await;
    let (mut one, mut two) = (ready(&broker).await, broker.connect());
    let first = member(&mut one, "g").await;
    let given = two.ask(9, &join("g", "")).await.member_id;
    two.send(9, &join("g", &given)).await;
    let beat = HeartbeatRequest {
        group_id: Str::from("g"),
        generation_id: first.generation_id,
        member_id: first.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    loop {
        // The second member's JoinGroup comes in whenever it does.
        if name_of(one.ask_latest(&beat).await.error_code) == "REBALANCE_IN_PROGRESS" {
            break;
        }
    }
    one.send(9, &join("g", &first.member_id)).await;
    let second = two.receive::<JoinGroupRequest>().await;
    let first = one.receive::<JoinGroupRequest>().await;
    assert_eq!((first.generation_id, second.generation_id), (2, 2));
    assert_eq!((first.members.len(), second.members.len()), (2, 0), "the leader assigns");
    two.send(5, &sync("g", &second, &[])).await;
    let gives = [(&first.member_id, &b"one"[..]), (&second.member_id, &b"two"[..])];
    assert_eq!(&one.ask(5, &sync("g", &first, &gives)).await.assignment[..], b"one");
    assert_eq!(&two.receive::<SyncGroupRequest>().await.assignment[..], b"two");
    let stale = commit_as("g", &JoinGroupResponse { generation_id: 1, ..first.clone() }, 0, 5, "");
    one.create_topic("t", 1, &[]).await;
    assert_eq!(try_commit(&mut one, &stale).await, "ILLEGAL_GENERATION");
    assert_eq!(try_commit(&mut one, &commit_as("g", &first, 0, 5, "")).await, "NONE");
    assert_eq!(try_commit(&mut one, &commit("g", 0, 9)).await, "UNKNOWN_MEMBER_ID", "the group has members");
}

#[tokio::test]
async fn a_parked_join_delays_nobody_else_and_goes_with_its_connection() {
    let broker = TestBroker::start().await;
    let (mut parked, mut other) = (ready(&broker).await, broker.connect());
    // The first rebalance waits three seconds for company.
    parked.send(0, &join("g", "")).await;
    while state_of(&mut other, "g").await != "PreparingRebalance" {}
    other.create_topic("t", 1, &[]).await;
    assert_eq!(try_commit(&mut other, &commit("another", 0, 1)).await, "NONE");
    drop(parked);
    assert_eq!(try_commit(&mut other, &commit("another", 0, 2)).await, "NONE");
}

#[tokio::test]
async fn offsets_are_committed_and_fetched_in_every_version() {
    let broker = broker().await;
    let mut client = ready(&broker).await;
    let topic_id = client.create_topic("t", 2, &[]).await;
    for version in versions::<OffsetCommitRequest>() {
        let mut request = commit("g", 1, 100 + i64::from(version));
        if version >= 10 {
            (request.topics[0].name, request.topics[0].topic_id) = (Str::empty(), topic_id);
        }
        let response = client.ask(version, &request).await;
        assert_eq!(name_of(response.topics[0].partitions[0].error_code), "NONE", "{version}");
        assert_eq!(response.topics[0].topic_id, if version >= 10 { topic_id } else { Uuid::ZERO });
        assert_eq!(fetch(&mut client, "g").await, [(1, 100 + i64::from(version))]);
    }
    for version in versions::<OffsetFetchRequest>() {
        let request = fetch_request(version, "g", Some(topic_id));
        let response = client.ask(version, &request).await;
        let found: Vec<i64> = if version < 8 {
            response.topics[0].partitions.iter().map(|partition| partition.committed_offset).collect()
        } else {
            response.groups[0].topics[0].partitions.iter().map(|it| it.committed_offset).collect()
        };
        assert_eq!(found, [-1, 110], "{version}");
        if version >= 2 {
            let response = client.ask(version, &fetch_request(version, "g", None)).await;
            let topics = if version < 8 { response.topics.len() } else { response.groups[0].topics.len() };
            assert_eq!(topics, 1, "{version}: all topics");
        }
    }
    let unknown = client.ask(10, &fetch_request(10, "g", Some(Uuid([9; 16])))).await;
    let code = unknown.groups[0].topics[0].partitions[0].error_code;
    assert_eq!(name_of(code), "UNKNOWN_TOPIC_ID");
}

fn fetch_request(version: i16, group: &str, topic_id: Option<Uuid>) -> OffsetFetchRequest {
    if version < 8 {
        let topics = topic_id.map(|_| {
            vec![OffsetFetchRequestTopic {
                name: Str::from("t"),
                partition_indexes: vec![0, 1],
                ..OffsetFetchRequestTopic::default()
            }]
        });
        return OffsetFetchRequest { group_id: Str::from(group), topics, ..OffsetFetchRequest::default() };
    }
    let topics = topic_id.map(|topic_id| {
        vec![OffsetFetchRequestTopics {
            name: if version < 10 { Str::from("t") } else { Str::empty() },
            topic_id: if version < 10 { Uuid::ZERO } else { topic_id },
            partition_indexes: vec![0, 1],
            ..OffsetFetchRequestTopics::default()
        }]
    });
    let group =
        OffsetFetchRequestGroup { group_id: Str::from(group), topics, ..OffsetFetchRequestGroup::default() };
    OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() }
}

#[tokio::test]
async fn s1_8_group_id_and_other_bad_input_gets_kafkas_code_and_costs_nobody_else() {
    let broker = broker().await;
    let mut client = ready(&broker).await;
    client.create_topic("t", 1, &[]).await;
    for odd in ["../../etc", "a\0b", "a/b", &"x".repeat(5000), "grün 🦀"] {
        let joined = member(&mut client, odd).await;
        assert_eq!(try_commit(&mut client, &commit_as(odd, &joined, 0, 3, "")).await, "NONE", "{odd:?}");
        assert_eq!(fetch(&mut client, odd).await, [(0, 3)]);
    }
    assert_eq!(name_of(client.ask(9, &join("", "")).await.error_code), "INVALID_GROUP_ID");
    assert_eq!(name_of(client.ask(9, &join("g", "nobody")).await.error_code), "UNKNOWN_MEMBER_ID");
    for timeout_ms in [i32::MIN, -1, 0, 5_999, 1_800_001, i32::MAX] {
        let request = JoinGroupRequest { session_timeout_ms: timeout_ms, ..join("g", "") };
        assert_eq!(name_of(client.ask(9, &request).await.error_code), "INVALID_SESSION_TIMEOUT");
    }
    let none = JoinGroupRequest { protocols: vec![], ..join("g", "") };
    assert_eq!(name_of(client.ask(9, &none).await.error_code), "INCONSISTENT_GROUP_PROTOCOL");
    let joined = member(&mut client, "g").await;
    let connect = JoinGroupRequest { protocol_type: Str::from("connect"), ..join("g", "") };
    assert_eq!(name_of(client.ask(9, &connect).await.error_code), "INCONSISTENT_GROUP_PROTOCOL");
    let mut other = join("g", "");
    other.protocols[0].name = Str::from("sticky");
    assert_eq!(name_of(client.ask(9, &other).await.error_code), "INCONSISTENT_GROUP_PROTOCOL");
    let wrong = SyncGroupRequest { protocol_type: Some(Str::from("connect")), ..sync("g", &joined, &[]) };
    assert_eq!(name_of(client.ask_latest(&wrong).await.error_code), "INCONSISTENT_GROUP_PROTOCOL");
    let silent = SyncGroupRequest { protocol_name: None, ..sync("g", &joined, &[]) };
    assert_eq!(name_of(client.ask_latest(&silent).await.error_code), "INCONSISTENT_GROUP_PROTOCOL");
    let stale = SyncGroupRequest { generation_id: 0, ..sync("g", &joined, &[]) };
    assert_eq!(name_of(client.ask_latest(&stale).await.error_code), "ILLEGAL_GENERATION");
    let long = commit_as("g", &joined, 0, 1, &"x".repeat(4097));
    assert_eq!(try_commit(&mut client, &long).await, "OFFSET_METADATA_TOO_LARGE");
    let fits = commit_as("g", &joined, 0, 1, &"ü".repeat(4096));
    assert_eq!(try_commit(&mut client, &fits).await, "NONE", "Kafka counts characters");
    assert_eq!(
        try_commit(&mut client, &commit_as("g", &joined, 9, 1, "")).await,
        "UNKNOWN_TOPIC_OR_PARTITION"
    );
    let unknown_group = JoinGroupResponse { generation_id: 1, member_id: "m".into(), ..joined.clone() };
    assert_eq!(
        try_commit(&mut client, &commit_as("none", &unknown_group, 0, 1, "")).await,
        "GROUP_ID_NOT_FOUND"
    );
    let old = client.ask(8, &commit_as("none", &unknown_group, 0, 1, "")).await;
    assert_eq!(name_of(old.topics[0].partitions[0].error_code), "ILLEGAL_GENERATION");
    assert_eq!(state_of(&mut client, "g").await, "Stable");
}

/// What does not fit into a record costs its sender an answer, and nobody whose group lives in the same partition.
#[tokio::test]
async fn s1_8_a_subscription_too_large_for_a_record_is_refused_and_costs_nobody_else() {
    let settings = [("group.initial.rebalance.delay.ms", "0"), ("offsets.topic.num.partitions", "1")];
    let broker = TestBroker::with(1, &settings).await;
    let mut client = ready(&broker).await;
    client.create_topic("t", 1, &[]).await;
    let mut waiting = broker.connect();
    let joined = member(&mut client, "busy").await;
    waiting.send(0, &join("busy", "")).await;
    while state_of(&mut client, "busy").await != "PreparingRebalance" {}
    let names = (0..20_000).map(|number| Str::from(format!("{number:0100}")));
    let large = ConsumerGroupHeartbeatRequest {
        group_id: Str::from("large"),
        member_id: Str::from("m"),
        rebalance_timeout_ms: 1_000,
        subscribed_topic_names: Some(names.collect()),
        topic_partitions: Some(Vec::new()),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    for _ in 0..3 {
        assert_eq!(name_of(client.ask_latest(&large).await.error_code), "UNKNOWN_SERVER_ERROR");
    }
    let small =
        ConsumerGroupHeartbeatRequest { subscribed_topic_names: Some(vec!["t".into()]), ..large.clone() };
    assert_eq!(name_of(client.ask_latest(&small).await.error_code), "NONE");
    let mut classic = join("large", "");
    let long = "x".repeat(30_000);
    classic.protocols[0].metadata = subscription(&[long.as_str()].repeat(20));
    assert_eq!(name_of(client.ask(3, &classic).await.error_code), "UNKNOWN_SERVER_ERROR");
    let again = client.ask(9, &join("busy", &joined.member_id)).await;
    assert_eq!(name_of(again.error_code), "NONE");
    assert_eq!(name_of(waiting.receive::<JoinGroupRequest>().await.error_code), "NONE");
}

/// What Kafka's brokers say besides the code, as a comparison of their answers showed.
#[tokio::test]
async fn refusals_look_as_kafkas_do() {
    let broker = broker().await;
    let mut client = ready(&broker).await;
    client.create_topic("t", 1, &[]).await;
    for (version, name) in [(6, Some(Str::empty())), (7, None), (9, None)] {
        let refused = client.ask(version, &join("", "")).await;
        assert_eq!((name_of(refused.error_code), refused.protocol_name), ("INVALID_GROUP_ID", name));
    }
    let nobody = MemberIdentity { member_id: Str::from("m"), ..MemberIdentity::default() };
    let leave = |members| LeaveGroupRequest { group_id: Str::from("none"), members, ..Default::default() };
    let left = client.ask_latest(&leave(vec![nobody])).await;
    assert_eq!((left.error_code, name_of(left.members[0].error_code)), (0, "UNKNOWN_MEMBER_ID"));
    let old = LeaveGroupRequest { member_id: Str::from("m"), ..leave(vec![]) };
    assert_eq!(name_of(client.ask(2, &old).await.error_code), "UNKNOWN_MEMBER_ID");
    let describe = ConsumerGroupDescribeRequest { group_ids: vec![Str::empty()], ..Default::default() };
    assert_eq!(name_of(client.ask_latest(&describe).await.groups[0].error_code), "INVALID_GROUP_ID");
    let twice = commit("g", 0, 1);
    let twice =
        OffsetCommitRequest { topics: [twice.topics.clone(), twice.topics].concat(), ..commit("g", 0, 1) };
    assert_eq!(client.ask(9, &twice).await.topics.len(), 2);
    // A topic that is not there is named in the answer, even if nothing was asked about it; one that is there is not.
    let mut empty = commit("g", 0, 1);
    empty.topics[0].partitions.clear();
    assert_eq!(client.ask(9, &empty).await.topics.len(), 0);
    empty.topics[0].topic_id = Uuid::ZERO;
    let answered = client.ask(10, &empty).await.topics;
    assert_eq!((answered.len(), answered[0].partitions.len()), (1, 0));
}

/// An operator sees who had what while a group rebalances.
#[tokio::test]
async fn what_members_had_last_is_described_while_their_group_rebalances() {
    let broker = broker().await;
    let (mut client, mut second) = (ready(&broker).await, broker.connect());
    member(&mut client, "g").await;
    second.send(3, &join("g", "")).await;
    while state_of(&mut client, "g").await != "PreparingRebalance" {}
    let request = DescribeGroupsRequest { groups: vec![Str::from("g")], ..DescribeGroupsRequest::default() };
    let described = client.ask_latest(&request).await.groups.remove(0);
    let given: Vec<&[u8]> = described.members.iter().map(|member| &member.member_assignment[..]).collect();
    assert_eq!((given.contains(&&b"mine"[..]), &*described.protocol_data), (true, ""));
}

#[tokio::test]
async fn ten_thousand_groups_are_kept_and_one_more_is_as_well_served() {
    const GROUPS: i64 = 10_000;
    let mut broker = broker().await;
    let mut client = ready(&broker).await;
    client.create_topic("t", 1, &[]).await;
    for first in (0..GROUPS).step_by(50) {
        for number in first..first + 50 {
            client.send(9, &commit(&format!("g-{number}"), 0, number)).await;
        }
        for _ in 0..50 {
            let answer = client.receive::<OffsetCommitRequest>().await;
            assert_eq!(name_of(answer.topics[0].partitions[0].error_code), "NONE");
        }
    }
    let joined = member(&mut client, "one more").await;
    assert_eq!(try_commit(&mut client, &commit_as("one more", &joined, 0, 3, "")).await, "NONE");
    broker.restart().await;
    let mut client = broker.connect();
    loop {
        let listed = client.ask_latest(&ListGroupsRequest::default()).await;
        if listed.error_code == 0 {
            assert_eq!(listed.groups.len(), 10_001);
            break;
        }
    }
    for number in [0, 17, GROUPS - 1] {
        assert_eq!(fetch(&mut client, &format!("g-{number}")).await, [(0, number)]);
    }
    assert_eq!(try_commit(&mut client, &commit_as("one more", &joined, 0, 4, "")).await, "NONE");
}

#[tokio::test]
async fn a_group_takes_no_more_members_than_it_may() {
    let settings = [("group.initial.rebalance.delay.ms", "0"), ("group.max.size", "1")];
    let broker = TestBroker::with(1, &settings).await;
    let mut client = ready(&broker).await;
    member(&mut client, "g").await;
    assert_eq!(name_of(client.ask(9, &join("g", "")).await.error_code), "GROUP_MAX_SIZE_REACHED");
    assert_eq!(name_of(client.ask(3, &join("g", "")).await.error_code), "GROUP_MAX_SIZE_REACHED");
    assert_eq!(state_of(&mut client, "g").await, "Stable");
}

#[tokio::test]
async fn a_static_member_comes_back_without_a_rebalance_and_its_twin_is_fenced() {
    let broker = broker().await;
    let mut client = ready(&broker).await;
    let request = JoinGroupRequest { group_instance_id: Some(Str::from("i")), ..join("g", "") };
    let first = client.ask(9, &request).await;
    assert_eq!((name_of(first.error_code), first.generation_id), ("NONE", 1));
    client.ask_latest(&sync("g", &first, &[(&first.member_id, b"mine")])).await;
    let again = client.ask(9, &request).await;
    assert_eq!((again.generation_id, again.skip_assignment, again.members.len()), (1, true, 1));
    assert_ne!(again.member_id, first.member_id);
    assert_eq!(&client.ask_latest(&sync("g", &again, &[])).await.assignment[..], b"mine");
    let old = client.ask(8, &request).await;
    assert_eq!((old.generation_id, old.members.len()), (1, 0), "before version 9 it is told of its old id");
    assert_eq!(old.leader, again.member_id);
    let fenced = HeartbeatRequest {
        group_id: Str::from("g"),
        generation_id: 1,
        member_id: first.member_id.clone(),
        group_instance_id: Some(Str::from("i")),
        ..HeartbeatRequest::default()
    };
    assert_eq!(name_of(client.ask_latest(&fenced).await.error_code), "FENCED_INSTANCE_ID");
    let remove = LeaveGroupRequest {
        group_id: Str::from("g"),
        members: vec![MemberIdentity {
            group_instance_id: Some(Str::from("i")),
            ..MemberIdentity::default()
        }],
        ..LeaveGroupRequest::default()
    };
    assert_eq!(client.ask_latest(&remove).await.members[0].error_code, 0);
    assert_eq!(state_of(&mut client, "g").await, "Empty");
}

#[tokio::test]
async fn groups_are_described_listed_and_deleted_in_every_version() {
    let broker = broker().await;
    let mut client = ready(&broker).await;
    client.create_topic("t", 1, &[]).await;
    let joined = member(&mut client, "busy").await;
    assert_eq!(try_commit(&mut client, &commit("idle", 0, 1)).await, "NONE");
    for version in versions::<DescribeGroupsRequest>() {
        let groups = ["busy", "idle", "none"].map(Str::from).to_vec();
        let request = DescribeGroupsRequest {
            groups,
            include_authorized_operations: version >= 3,
            ..DescribeGroupsRequest::default()
        };
        let described = client.ask(version, &request).await.groups;
        let states: Vec<&str> = described.iter().map(|group| group.group_state.as_str()).collect();
        assert_eq!(states, ["Stable", "Empty", "Dead"]);
        assert_eq!(name_of(described[2].error_code), if version < 6 { "NONE" } else { "GROUP_ID_NOT_FOUND" });
        assert_eq!((&*described[0].protocol_type, &*described[0].protocol_data), ("consumer", "range"));
        assert_eq!(described[0].members[0].member_id, joined.member_id);
        assert_eq!(&described[0].members[0].member_assignment[..], b"mine");
    }
    for version in versions::<ListGroupsRequest>() {
        let listed = client.ask(version, &ListGroupsRequest::default()).await.groups;
        let names: Vec<&str> = listed.iter().map(|group| group.group_id.as_str()).collect();
        assert_eq!(names, ["busy", "idle"]);
        if version >= 5 {
            assert_eq!(&*listed[0].group_type, "classic");
        }
        if version >= 4 {
            let states_filter = vec![Str::from("eMPTY")];
            let request = ListGroupsRequest { states_filter, ..ListGroupsRequest::default() };
            assert_eq!(client.ask(version, &request).await.groups.len(), 1);
        }
    }
    for version in versions::<DeleteGroupsRequest>() {
        // One that is named twice is answered for once.
        let groups_names = ["busy", "idle", "none", "idle"].map(Str::from).to_vec();
        let results =
            client.ask(version, &DeleteGroupsRequest { groups_names, ..Default::default() }).await.results;
        let codes: Vec<&str> = results.iter().map(|result| name_of(result.error_code)).collect();
        assert_eq!(codes, ["NON_EMPTY_GROUP", "NONE", "GROUP_ID_NOT_FOUND"]);
        assert_eq!(fetch(&mut client, "idle").await, []);
        assert_eq!(try_commit(&mut client, &commit("idle", 0, 1)).await, "NONE");
    }
}

#[tokio::test]
async fn offsets_are_deleted_one_by_one_unless_somebody_reads_the_topic() {
    let broker = broker().await;
    let mut client = ready(&broker).await;
    client.create_topic("t", 2, &[]).await;
    let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
    let delete = |group: &str| OffsetDeleteRequest {
        group_id: Str::from(group),
        topics: vec![OffsetDeleteRequestTopic {
            name: Str::from("t"),
            partitions: vec![partition(0), partition(7)],
        }],
    };
    let none = client.ask_latest(&delete("none")).await;
    assert_eq!(name_of(none.error_code), "GROUP_ID_NOT_FOUND");
    for partition in 0..2 {
        assert_eq!(try_commit(&mut client, &commit("g", partition, 5)).await, "NONE");
    }
    let codes = |response: klamm::protocol::messages::offset_delete_response::OffsetDeleteResponse| {
        let partitions = &response.topics[0].partitions;
        partitions.iter().map(|partition| name_of(partition.error_code)).collect::<Vec<_>>()
    };
    assert_eq!(codes(client.ask_latest(&delete("g")).await), ["NONE", "UNKNOWN_TOPIC_OR_PARTITION"]);
    assert_eq!(fetch(&mut client, "g").await, [(1, 5)]);
    let joined = member(&mut client, "busy").await;
    assert_eq!(try_commit(&mut client, &commit_as("busy", &joined, 0, 5, "")).await, "NONE");
    let kept = codes(client.ask_latest(&delete("busy")).await);
    assert_eq!(kept, ["GROUP_SUBSCRIBED_TO_TOPIC", "UNKNOWN_TOPIC_OR_PARTITION"]);
    assert_eq!(fetch(&mut client, "busy").await, [(0, 5)]);
}

#[tokio::test]
async fn a_deleted_topic_takes_its_offsets_along() {
    let broker = broker().await;
    let mut client = ready(&broker).await;
    client.create_topic("t", 1, &[]).await;
    assert_eq!(try_commit(&mut client, &commit("g", 0, 5)).await, "NONE");
    let topics = vec![DeleteTopicState { name: Some(Str::from("t")), ..DeleteTopicState::default() }];
    client.ask_latest(&DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() }).await;
    client.create_topic("t", 1, &[]).await;
    // Coordinators hear of it a little later than the answer.
    while !fetch(&mut client, "g").await.is_empty() {}
}

#[tokio::test]
async fn redpanda_9571_a_commit_is_there_after_its_answer_was_lost_and_after_restarts() {
    let mut broker = broker().await;
    let mut client = ready(&broker).await;
    client.create_topic("t", 1, &[]).await;
    let joined = member(&mut client, "g").await;
    assert_eq!(try_commit(&mut client, &commit_as("g", &joined, 0, 5, "note")).await, "NONE");
    client.send(9, &commit_as("g", &joined, 0, 6, "")).await;
    drop(client);
    let mut client = broker.connect();
    // Once the new offset was seen, the old one never is again.
    while fetch(&mut client, "g").await != [(0, 6)] {}
    for _ in 0..2 {
        broker.restart().await;
        client = broker.connect();
        loop {
            let request = DescribeGroupsRequest { groups: vec![Str::from("g")], ..Default::default() };
            let described = client.ask_latest(&request).await.groups[0].clone();
            if name_of(described.error_code) != "COORDINATOR_LOAD_IN_PROGRESS" {
                assert_eq!(&*described.group_state, "Stable", "its member is given time to come back");
                assert_eq!(&described.members[0].member_assignment[..], b"mine");
                break;
            }
        }
        assert_eq!(fetch(&mut client, "g").await, [(0, 6)]);
        assert_eq!(try_commit(&mut client, &commit_as("g", &joined, 0, 6, "")).await, "NONE");
    }
}

#[tokio::test]
async fn with_flushed_acknowledgements_a_commit_is_answered_when_it_is_synced() {
    let broker = TestBroker::with(
        1,
        &[("log.flush.interval.messages", "1"), ("group.initial.rebalance.delay.ms", "0")],
    )
    .await;
    let mut client = ready(&broker).await;
    client.create_topic("t", 1, &[]).await;
    let joined = member(&mut client, "g").await;
    for offset in 0..20 {
        assert_eq!(try_commit(&mut client, &commit_as("g", &joined, 0, offset, "")).await, "NONE");
        assert_eq!(fetch(&mut client, "g").await, [(0, offset)]);
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_members_that_wait_for_others() {
    let mut broker = TestBroker::start().await;
    let mut client = ready(&broker).await;
    client.send(0, &join("g", "")).await;
    let mut other = broker.connect();
    while state_of(&mut other, "g").await != "PreparingRebalance" {}
    let begun = std::time::Instant::now();
    broker.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "the first rebalance alone would take so long");
    let answer = client.try_receive::<JoinGroupRequest>().await;
    assert_eq!(answer.map(|answer| name_of(answer.error_code)), Some("NOT_COORDINATOR"));
}

#[test]
fn what_kafka_wrote_of_groups_is_loaded_with_the_ends_of_its_transactions() {
    let log = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/kafka/clean/__consumer_offsets-0/00000000000000000000.log");
    let bytes = Bytes::from(std::fs::read(log).unwrap());
    let mut shard = Shard::new();
    let end = replay(&mut shard, &bytes, Offset(0)).unwrap();
    assert!(end > Offset(30));
    let offset = |group: &str, partition| shard.committed(group, "grouped", partition).map(|it| it.offset);
    assert_eq!((offset("classic-group", 0), offset("classic-group", 1)), (Some(10), Some(10)));
    assert_eq!(offset("forgotten", 0), None, "deleted");
    assert_eq!(offset("transactional-group", 0), Some(5), "the second transaction was aborted");
    assert!(shard.group("forgotten").is_none());
    let kind = |group: &str| shard.group(group).map(|group| group.group_type().name());
    assert_eq!(kind("classic-group"), Some("classic"));
    assert_eq!(kind("consumer-group"), Some("consumer"));
    assert_eq!(kind("share-group"), Some("share"));
    let Some(Group::Classic(group)) = shard.group("static-member") else { panic!("a classic group") };
    assert_eq!((group.generation, group.state), (1, ClassicState::Stable));
    assert_eq!(group.static_members.keys().next().map(|id| &**id), Some("instance-1"));
}
