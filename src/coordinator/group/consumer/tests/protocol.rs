//! The consumer protocol, step by step, as KIP-848 has it and Kafka 4.3 serves it.

use crate::coordinator::{Answer, GroupRecord, Request};
use crate::protocol::messages::consumer_group_describe_response::DescribedGroup;
use crate::protocol::messages::consumer_group_heartbeat_request::{
    ConsumerGroupHeartbeatRequest, TopicPartitions,
};
use crate::protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::{ErrorCode, Str};
use crate::types::Uuid;

use super::world::{GROUP, World};

pub(super) fn request(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP,
        member_id: member.into(),
        member_epoch: epoch,
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

pub(super) fn join(member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(topics.iter().map(|topic| Str::from(*topic)).collect()),
        topic_partitions: Some(Vec::new()),
        ..request(member, 0)
    }
}

fn owning(
    request: ConsumerGroupHeartbeatRequest,
    topic_id: Uuid,
    partitions: &[i32],
) -> ConsumerGroupHeartbeatRequest {
    let topic = TopicPartitions { topic_id, partitions: partitions.to_vec(), ..TopicPartitions::default() };
    let topics = if partitions.is_empty() { Vec::new() } else { vec![topic] };
    ConsumerGroupHeartbeatRequest { topic_partitions: Some(topics), ..request }
}

/// Epoch and partitions of an answer without an error.
fn told(response: &ConsumerGroupHeartbeatResponse) -> (i32, Option<Vec<i32>>) {
    assert_eq!(response.error_code, 0, "{response:?}");
    let assignment = response.assignment.as_ref();
    let partitions = assignment.map(|assignment| {
        assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect()
    });
    (response.member_epoch, partitions)
}

fn code(response: &ConsumerGroupHeartbeatResponse) -> ErrorCode {
    ErrorCode::from_code(response.error_code).unwrap()
}

pub(super) fn describe(world: &mut World) -> DescribedGroup {
    match world.ask(1, Request::ConsumerGroupDescribe(vec![GROUP])).1 {
        Some(Answer::ConsumerGroupDescribe(mut groups)) => groups.remove(0),
        other => panic!("{other:?}"),
    }
}

/// The assignment of `group.consumer.assignment.interval.ms` may be made again.
fn later(world: &mut World) {
    world.pass(1_001);
}

#[test]
fn a_lone_member_gets_everything_with_its_first_heartbeat() {
    let mut world = World::new();
    world.create_topic("a", 3);
    let joined = world.heartbeat(join("m1", &["a"]));
    assert_eq!(told(&joined), (2, Some(vec![0, 1, 2])));
    assert_eq!(joined.heartbeat_interval_ms, 5_000);
    assert_eq!(told(&world.heartbeat(request("m1", 2))), (2, None));
    let names: Vec<&str> = world
        .records_since(0)
        .iter()
        .map(|record| match record {
            GroupRecord::ConsumerGroupMemberMetadata(..) => "member",
            GroupRecord::ConsumerGroupMetadata(..) => "epoch",
            GroupRecord::ConsumerGroupTargetAssignmentMember(..) => "target",
            GroupRecord::ConsumerGroupTargetAssignmentMetadata(..) => "target epoch",
            GroupRecord::ConsumerGroupCurrentMemberAssignment(..) => "standing",
            _ => "other",
        })
        .collect();
    assert_eq!(names, ["member", "epoch", "target", "target epoch", "standing"], "Kafka's order");
    let described = describe(&mut world);
    assert_eq!(
        (&*described.group_state, described.group_epoch, described.assignment_epoch),
        ("Stable", 2, 2)
    );
    assert_eq!((&*described.assignor_name, described.members[0].member_type), ("uniform", 1));
}

#[test]
fn partitions_move_only_when_they_were_given_back() {
    let mut world = World::new();
    let a = world.create_topic("a", 4);
    world.heartbeat(join("m1", &["a"]));
    later(&mut world);
    let joined = world.heartbeat(join("m2", &["a"]));
    assert_eq!(told(&joined), (3, Some(vec![])), "m1 still has all of them");
    assert_eq!(describe(&mut world).group_state, "Reconciling");
    let told_to_revoke = world.heartbeat(request("m1", 2));
    assert_eq!(told(&told_to_revoke), (2, Some(vec![0, 1])), "the epoch stays until they are given back");
    assert_eq!(told(&world.heartbeat(request("m1", 2))), (2, None), "silence is no giving back");
    assert_eq!(told(&world.heartbeat(request("m2", 3))), (3, None));
    assert_eq!(told(&world.heartbeat(owning(request("m1", 2), a, &[0, 1]))), (3, None));
    assert_eq!(told(&world.heartbeat(request("m2", 3))), (3, Some(vec![2, 3])));
    assert_eq!(describe(&mut world).group_state, "Stable");
}

#[test]
fn a_target_is_made_no_sooner_than_its_interval_allows() {
    let mut world = World::new();
    world.create_topic("a", 2);
    world.heartbeat(join("m1", &["a"]));
    assert_eq!(told(&world.heartbeat(join("m2", &["a"]))), (2, Some(vec![])));
    assert_eq!(describe(&mut world).group_state, "Assigning");
    later(&mut world);
    assert_eq!(told(&world.heartbeat(request("m2", 2))), (3, None));
    assert_eq!(describe(&mut world).group_state, "Reconciling");
}

#[test]
fn a_lost_answer_may_be_asked_for_again_and_other_old_epochs_are_fenced() {
    let mut world = World::new();
    let a = world.create_topic("a", 2);
    world.heartbeat(join("m1", &["a"]));
    later(&mut world);
    world.heartbeat(join("m2", &["a"]));
    world.heartbeat(request("m1", 2));
    assert_eq!(told(&world.heartbeat(owning(request("m1", 2), a, &[0]))), (3, None));
    let again = world.heartbeat(owning(request("m1", 2), a, &[0]));
    assert_eq!(told(&again).0, 3, "its answer was lost: the previous epoch is taken once more");
    assert_eq!(
        code(&world.heartbeat(request("m1", 2))),
        ErrorCode::FencedMemberEpoch,
        "without saying what it owns"
    );
    let too_much = world.heartbeat(owning(request("m1", 2), a, &[0, 1]));
    assert_eq!(code(&too_much), ErrorCode::FencedMemberEpoch, "partition 1 is no longer its own");
    assert_eq!(code(&world.heartbeat(request("m1", 9))), ErrorCode::FencedMemberEpoch);
    assert_eq!(code(&world.heartbeat(request("nobody", 3))), ErrorCode::UnknownMemberId);
    assert_eq!(told(&world.heartbeat(join("m1", &["a"]))), (3, Some(vec![0])), "epoch 0 always may");
}

#[test]
fn who_is_silent_or_slow_to_give_back_is_out() {
    let mut world = World::new();
    let a = world.create_topic("a", 2);
    world.heartbeat(join("m1", &["a"]));
    later(&mut world);
    world.heartbeat(join("m2", &["a"]));
    world.heartbeat(request("m1", 2));
    world.pass(20_000);
    world.heartbeat(request("m1", 2));
    world.heartbeat(request("m2", 3));
    world.pass(10_001);
    assert_eq!(code(&world.heartbeat(request("m1", 2))), ErrorCode::UnknownMemberId, "30 s to give back");
    assert_eq!(told(&world.heartbeat(owning(request("m2", 3), a, &[]))), (4, Some(vec![0, 1])));
    world.pass(45_001);
    assert_eq!(describe(&mut world).group_state, "Empty");
}

#[test]
fn static_members_keep_their_place_while_they_are_away() {
    let mut world = World::new();
    world.create_topic("a", 2);
    let with_instance = |request: ConsumerGroupHeartbeatRequest| ConsumerGroupHeartbeatRequest {
        instance_id: Some("i1".into()),
        ..request
    };
    world.heartbeat(with_instance(join("m1", &["a"])));
    later(&mut world);
    let other = world.heartbeat(with_instance(join("m1-again", &["a"])));
    assert_eq!(code(&other), ErrorCode::UnreleasedInstanceId);
    assert_eq!(told(&world.heartbeat(with_instance(request("m1", -2)))), (-2, None));
    let back = world.heartbeat(with_instance(join("m1-again", &["a"])));
    assert_eq!(told(&back), (2, Some(vec![0, 1])), "no rebalance");
    assert_eq!(code(&world.heartbeat(with_instance(request("m1", 2)))), ErrorCode::FencedInstanceId);
    let unknown = ConsumerGroupHeartbeatRequest { instance_id: Some("i9".into()), ..request("m1", 2) };
    assert_eq!(code(&world.heartbeat(unknown)), ErrorCode::UnknownMemberId);
    world.heartbeat(with_instance(request("m1-again", -2)));
    world.pass(45_001);
    assert_eq!(describe(&mut world).group_state, "Empty", "but not for ever");
}

#[test]
fn topics_that_come_grow_and_go_make_the_group_rebalance() {
    let mut world = World::new();
    let a = world.create_topic("a", 1);
    assert_eq!(told(&world.heartbeat(join("m1", &["a", "b"]))), (2, Some(vec![0])));
    later(&mut world);
    world.add_partitions("a", 1);
    assert_eq!(told(&world.heartbeat(request("m1", 2))), (3, Some(vec![0, 1])));
    later(&mut world);
    let b = world.create_topic("b", 1);
    assert_eq!(told(&world.heartbeat(request("m1", 3))), (4, Some(vec![0, 1, 0])));
    later(&mut world);
    world.delete_topic("a");
    assert_eq!(told(&world.heartbeat(request("m1", 4))), (4, Some(vec![0])), "a's are to be given back");
    assert_eq!(told(&world.heartbeat(owning(request("m1", 4), b, &[0]))), (5, None));
    later(&mut world);
    world.create_topic("other", 1);
    assert_eq!(told(&world.heartbeat(request("m1", 5))), (5, None), "nobody reads it");
    assert_ne!(a, b);
}

#[test]
fn patterns_are_looked_up_behind_the_heartbeat_and_again_when_topics_come() {
    let mut world = World::new();
    world.create_topic("a-1", 1);
    world.create_topic("b", 1);
    let by_pattern = |member: &str, pattern: &str| ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(pattern.into()),
        ..join(member, &[])
    };
    assert_eq!(told(&world.heartbeat(by_pattern("m1", "a-.*"))), (1, Some(vec![])));
    world.pass(0);
    assert_eq!(told(&world.heartbeat(request("m1", 1))), (2, Some(vec![0])));
    let invalid = world.heartbeat(by_pattern("m2", "a-["));
    assert_eq!(code(&invalid), ErrorCode::InvalidRegularExpression);
    world.pass(10_001);
    world.create_topic("a-2", 1);
    world.heartbeat(request("m1", 2));
    world.pass(0);
    assert_eq!(told(&world.heartbeat(request("m1", 2))), (3, Some(vec![0, 0])));
    let described = describe(&mut world);
    assert_eq!(described.members[0].subscribed_topic_regex.as_deref(), Some("a-.*"));
    let start = world.log.len();
    world.heartbeat(request("m1", -1));
    let forgotten =
        |record: &GroupRecord| matches!(record, GroupRecord::ConsumerGroupRegularExpression(_, None));
    assert!(world.records_since(start).iter().any(forgotten));
}

/// The topics that the group reads are the same ones: that one member reads none of them any more is what counts.
#[test]
fn a_new_pattern_that_matches_nothing_makes_the_group_rebalance() {
    let mut world = World::new();
    world.create_topic("a", 2);
    let by_pattern = |request: ConsumerGroupHeartbeatRequest, pattern: &str| ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(pattern.into()),
        ..request
    };
    world.heartbeat(by_pattern(join("m1", &[]), "a.*"));
    world.pass(10_001);
    world.heartbeat(join("m2", &["a"]));
    let epoch_of = |world: &World| world.consumer_group().map(|group| group.group_epoch);
    let before = epoch_of(&world);
    assert_eq!(world.heartbeat(by_pattern(request("m1", 1), "c.*")).error_code, 0);
    world.pass(0);
    assert_eq!(epoch_of(&world), before.map(|epoch| epoch + 1));
}

#[test]
fn bad_requests_get_kafkas_codes() {
    let mut world = World::new();
    let mut check = |request: ConsumerGroupHeartbeatRequest, expected: ErrorCode| {
        assert_eq!(code(&world.heartbeat(request.clone())), expected, "{request:?}");
    };
    check(request("m", 1), ErrorCode::GroupIdNotFound);
    check(request("m", -1), ErrorCode::GroupIdNotFound);
    check(request("", 0), ErrorCode::InvalidRequest);
    check(request("m", 0), ErrorCode::InvalidRequest);
    check(request("m", -2), ErrorCode::InvalidRequest);
    check(request("m", -3), ErrorCode::InvalidRequest);
    check(
        ConsumerGroupHeartbeatRequest { group_id: " ".into(), ..join("m", &["a"]) },
        ErrorCode::InvalidRequest,
    );
    let assignor = Some(Str::from("mine"));
    check(
        ConsumerGroupHeartbeatRequest { server_assignor: assignor, ..join("m", &["a"]) },
        ErrorCode::UnsupportedAssignor,
    );
    world.settings.consumer_max_size = 1;
    assert_eq!(told(&world.heartbeat(join("m1", &["a"]))), (2, Some(vec![])));
    assert_eq!(code(&world.heartbeat(join("m2", &["a"]))), ErrorCode::GroupMaxSizeReached);
    let (_, answer) = world.ask(0, Request::ConsumerGroupHeartbeat(request("m1", -1)));
    assert!(matches!(answer, Some(Answer::ConsumerGroupHeartbeat(left)) if left.member_epoch == -1));
    let (_, answer) = world.ask(0, Request::ConsumerGroupHeartbeat(join("", &["a"])));
    let Some(Answer::ConsumerGroupHeartbeat(named)) = answer else { panic!("{answer:?}") };
    assert_eq!(named.member_id.unwrap().len(), 22, "version 0: the coordinator names its members");
}

#[test]
fn commits_keep_to_member_epochs() {
    let mut world = World::new();
    let a = world.create_topic("a", 2);
    world.heartbeat(join("m1", &["a"]));
    later(&mut world);
    world.heartbeat(join("m2", &["a"]));
    world.heartbeat(request("m1", 2));
    world.heartbeat(owning(request("m1", 2), a, &[0]));
    let mut commit = |member: &str, epoch: i32, partition: i32, version: i16| {
        let partition = OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: 5,
            ..OffsetCommitRequestPartition::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: "a".into(),
            topic_id: a,
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: GROUP,
            generation_id_or_member_epoch: epoch,
            member_id: member.into(),
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        match world.ask(version, Request::OffsetCommit(request)).1 {
            Some(Answer::OffsetCommit(response)) => {
                ErrorCode::from_code(response.topics[0].partitions[0].error_code).unwrap()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(commit("m1", 3, 0, 9), ErrorCode::None);
    assert_eq!(commit("m1", 2, 0, 9), ErrorCode::None, "it has had it all the time");
    assert_eq!(commit("m1", 2, 1, 9), ErrorCode::StaleMemberEpoch, "it gave it back");
    assert_eq!(commit("m1", 4, 0, 9), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit("m1", 3, 0, 8), ErrorCode::UnsupportedVersion);
    assert_eq!(commit("m9", 3, 0, 9), ErrorCode::UnknownMemberId);
    assert_eq!(commit("", -1, 0, 9), ErrorCode::UnknownMemberId, "others commit while the group is empty");
}
