//! Classic members in consumer groups, and groups that change their protocol under running members.

use bytes::Bytes;

use crate::coordinator::group::Group;
use crate::coordinator::{Answer, ClassicState, Request};
use crate::protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use crate::protocol::messages::heartbeat_request::HeartbeatRequest;
use crate::protocol::messages::join_group_request::JoinGroupRequest;
use crate::protocol::messages::join_group_response::JoinGroupResponse;
use crate::protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use crate::protocol::messages::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use crate::protocol::messages::sync_group_response::SyncGroupResponse;
use crate::protocol::{ErrorCode, Str};

use super::consumers::{assignment_bytes, assignment_of, join_request};
use super::protocol::{describe, join, request};
use super::world::{GROUP, World};

fn joined(world: &mut World, request: JoinGroupRequest) -> JoinGroupResponse {
    match world.ask(9, Request::JoinGroup(request)).1 {
        Some(Answer::JoinGroup(response)) => response,
        other => panic!("{other:?}"),
    }
}

fn sync(
    world: &mut World,
    member: &str,
    generation: i32,
    assignments: &[(&str, Bytes)],
) -> SyncGroupResponse {
    let request = SyncGroupRequest {
        group_id: GROUP,
        generation_id: generation,
        member_id: member.into(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments
            .iter()
            .map(|(member, assignment)| SyncGroupRequestAssignment {
                member_id: Str::from(*member),
                assignment: assignment.clone(),
                ..SyncGroupRequestAssignment::default()
            })
            .collect(),
        ..SyncGroupRequest::default()
    };
    match world.ask(5, Request::SyncGroup(request)).1 {
        Some(Answer::SyncGroup(response)) => response,
        other => panic!("{other:?}"),
    }
}

fn heartbeat(world: &mut World, member: &str, generation: i32) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: GROUP,
        generation_id: generation,
        member_id: member.into(),
        ..HeartbeatRequest::default()
    };
    match world.ask(4, Request::Heartbeat(request)).1 {
        Some(Answer::Heartbeat(response)) => ErrorCode::from_code(response.error_code).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A classic group with one member that has all of topic `a`'s two partitions. Its member's id.
fn classic_group(world: &mut World) -> Str {
    world.create_topic("a", 2);
    let named = joined(world, join_request("", None, &["a"], &[]));
    assert_eq!(named.error_code, ErrorCode::MemberIdRequired.code());
    let (token, none) = world.ask(9, Request::JoinGroup(join_request(&named.member_id, None, &["a"], &[])));
    assert_eq!(none, None, "it waits for company");
    world.pass(3_000);
    let at = world.late_answers.iter().position(|(of, _)| *of == token).unwrap();
    let (_, Answer::JoinGroup(leader)) = world.late_answers.remove(at) else { panic!() };
    assert_eq!((leader.error_code, leader.generation_id), (0, 1));
    let all = assignment_bytes(&[("a", &[0, 1])]);
    let synced = sync(world, &leader.member_id, 1, &[(&leader.member_id, all.clone())]);
    assert_eq!(synced.assignment, all);
    leader.member_id
}

#[test]
fn s1_3_consumer_protocol_migration_test_moves_a_group_under_its_member_there_and_back() {
    let mut world = World::new();
    let classic = classic_group(&mut world);
    let newcomer = world.heartbeat(join("m2", &["a"]));
    assert_eq!((newcomer.error_code, newcomer.member_epoch), (0, 2));
    assert!(newcomer.assignment.unwrap().topic_partitions.is_empty(), "the classic member has all");
    let described = describe(&mut world);
    let types: Vec<i8> = described.members.iter().map(|member| member.member_type).collect();
    assert_eq!((types.iter().sum::<i8>(), types.len()), (1, 2), "one of each protocol");

    assert_eq!(heartbeat(&mut world, &classic, 1), ErrorCode::RebalanceInProgress);
    let again = joined(&mut world, join_request(&classic, None, &["a"], &[("a", &[0, 1])]));
    assert_eq!(
        (again.error_code, again.generation_id, &*again.leader),
        (0, 1, ""),
        "it has to give one back"
    );
    let synced = sync(&mut world, &classic, 1, &[]);
    assert_eq!(assignment_of(&synced.assignment), [("a".to_owned(), vec![0])]);
    assert_eq!(heartbeat(&mut world, &classic, 1), ErrorCode::RebalanceInProgress, "and to say so");
    let again = joined(&mut world, join_request(&classic, None, &["a"], &[("a", &[0])]));
    assert_eq!((again.error_code, again.generation_id), (0, 2));
    sync(&mut world, &classic, 2, &[]);
    assert_eq!(heartbeat(&mut world, &classic, 2), ErrorCode::None);
    let told = world.heartbeat(request("m2", 2));
    assert_eq!(told.assignment.unwrap().topic_partitions[0].partitions, [1]);

    let left = world.heartbeat(request("m2", -1));
    assert_eq!(left.error_code, 0);
    let Some(Group::Classic(group)) = world.group() else { panic!("{:?}", world.group()) };
    assert_eq!(group.state, ClassicState::PreparingRebalance);
    let generation = group_generation(&world);
    assert_eq!(heartbeat(&mut world, &classic, generation), ErrorCode::RebalanceInProgress);
    let leader = joined(&mut world, join_request(&classic, None, &["a"], &[("a", &[0])]));
    assert_eq!((leader.error_code, &leader.leader), (0, &classic));
}

/// Whatever a leader gave out: what it gave twice has one owner, what is not there has none, and nobody is stuck.
#[test]
fn a_partition_that_a_classic_leader_gave_to_two_has_one_owner_in_the_consumer_group() {
    let mut world = World::new();
    let classic = classic_group(&mut world);
    let named = joined(&mut world, join_request("", None, &["a"], &[])).member_id;
    let (token, _) = world.ask(9, Request::JoinGroup(join_request(&named, None, &["a"], &[])));
    joined(&mut world, join_request(&classic, None, &["a"], &[]));
    world.late_answers.retain(|(of, _)| *of != token);
    let generation = group_generation(&world);
    let all = assignment_bytes(&[("a", &[0, 1, 7, -1])]);
    sync(&mut world, &classic, generation, &[(&classic, all.clone()), (&named, all)]);

    let newcomer = world.heartbeat(join("m3", &["a"]));
    assert_eq!(newcomer.error_code, 0);
    let owners = |world: &mut World| {
        let members = describe(world).members;
        let owned = members.iter().flat_map(|member| &member.assignment.topic_partitions);
        let mut owned: Vec<i32> = owned.flat_map(|topic| topic.partitions.clone()).collect();
        owned.sort_unstable();
        owned
    };
    assert_eq!(owners(&mut world), [0, 1]);
    for member in [&classic, &named] {
        assert_eq!(heartbeat(&mut world, member, generation), ErrorCode::RebalanceInProgress);
        let again = joined(&mut world, join_request(member, None, &["a"], &[]));
        assert_eq!(again.error_code, 0);
        sync(&mut world, member, again.generation_id, &[]);
    }
    assert_eq!(world.heartbeat(request("m3", newcomer.member_epoch)).error_code, 0);
    assert_eq!(owners(&mut world), [0, 1]);
}

fn group_generation(world: &World) -> i32 {
    match world.group() {
        Some(Group::Classic(group)) => group.generation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_waits_in_a_classic_group_is_sent_back_when_it_is_upgraded() {
    let mut world = World::new();
    let classic = classic_group(&mut world);
    let second = joined(&mut world, join_request("", None, &["a"], &[])).member_id;
    let (token, none) = world.ask(9, Request::JoinGroup(join_request(&second, None, &["a"], &[])));
    assert_eq!(none, None, "it waits for the first to join again");
    world.heartbeat(join("m3", &["a"]));
    let answer = world.late_answers.iter().find(|(of, _)| *of == token);
    let Some((_, Answer::JoinGroup(refused))) = answer else { panic!("{answer:?}") };
    assert_eq!(refused.error_code, ErrorCode::RebalanceInProgress.code());
    assert_eq!(heartbeat(&mut world, &classic, 1), ErrorCode::RebalanceInProgress);
}

#[test]
fn the_policy_decides_about_conversions() {
    let mut world = World::new();
    classic_group(&mut world);
    world.settings.consumer_migration.upgrade = false;
    let refused = world.heartbeat(join("m2", &["a"]));
    assert_eq!(refused.error_code, ErrorCode::GroupIdNotFound.code());

    let mut world = World::new();
    world.create_topic("a", 2);
    world.heartbeat(join("m1", &["a"]));
    world.settings.consumer_migration.upgrade = false;
    world.settings.consumer_migration.downgrade = false;
    let refused = joined(&mut world, join_request("", None, &["a"], &[]));
    assert_eq!(refused.error_code, ErrorCode::InconsistentGroupProtocol.code());
    world.settings.consumer_migration.upgrade = true;
    let named = joined(&mut world, join_request("", None, &["a"], &[])).member_id;
    let member = joined(&mut world, join_request(&named, None, &["a"], &[]));
    assert_eq!(member.error_code, 0);
    world.heartbeat(request("m1", -1));
    assert!(matches!(world.group(), Some(Group::Consumer(_))), "no downgrade: it goes on as it is");
    world.pass(1_001);
    assert_eq!(heartbeat(&mut world, &member.member_id, member.generation_id), ErrorCode::None);
    let leave = LeaveGroupRequest {
        group_id: GROUP,
        members: vec![MemberIdentity { member_id: member.member_id, ..MemberIdentity::default() }],
        ..LeaveGroupRequest::default()
    };
    let (_, answer) = world.ask(5, Request::LeaveGroup(leave));
    assert!(matches!(answer, Some(Answer::LeaveGroup(left)) if left.members[0].error_code == 0));
    assert_eq!(describe(&mut world).group_state, "Empty");
}

#[test]
fn the_last_consumer_member_may_come_back_as_a_classic_one() {
    let mut world = World::new();
    world.create_topic("a", 2);
    let instance = |request: ConsumerGroupHeartbeatRequest, id: &str| ConsumerGroupHeartbeatRequest {
        instance_id: Some(id.into()),
        ..request
    };
    world.heartbeat(instance(join("m1", &["a"]), "i1"));
    world.heartbeat(instance(request("m1", -2), "i1"));
    let back = joined(&mut world, join_request("", Some("i1"), &["a"], &[]));
    assert_eq!((back.error_code, back.generation_id), (0, 2));
    let Some(Group::Classic(group)) = world.group() else { panic!("{:?}", world.group()) };
    assert_eq!((group.state, group.generation), (ClassicState::PreparingRebalance, 2));
    // It joins once more, and leads: who does not lead would not see that the topic grows.
    let synced = sync(&mut world, &back.member_id, 2, &[]);
    assert_eq!(synced.error_code, ErrorCode::RebalanceInProgress.code());
    let again = joined(&mut world, join_request(&back.member_id, Some("i1"), &["a"], &[]));
    assert_eq!((again.generation_id, &again.leader), (3, &back.member_id));
}

/// What the one that left had is nobody's until those that stay have joined again; that they are to is not forgotten
/// with the coordinator's memory.
#[test]
fn a_group_that_became_classic_rebalances_when_it_is_loaded_before_its_members_came() {
    let mut world = World::new();
    world.create_topic("a", 2);
    world.heartbeat(join("m1", &["a"]));
    let named = joined(&mut world, join_request("", None, &["a"], &[])).member_id;
    let member = joined(&mut world, join_request(&named, None, &["a"], &[]));
    world.heartbeat(request("m1", -1));
    for _ in 0..2 {
        let Some(Group::Classic(group)) = world.group() else { panic!("{:?}", world.group()) };
        assert_eq!(group.state, ClassicState::PreparingRebalance);
        world.reload();
    }
    let generation = group_generation(&world);
    assert_eq!(heartbeat(&mut world, &member.member_id, generation), ErrorCode::RebalanceInProgress);
    let leader = joined(&mut world, join_request(&named, None, &["a"], &[]));
    assert_eq!((leader.error_code, &leader.leader), (0, &named));
    world.reload();
    assert_eq!(heartbeat(&mut world, &named, leader.generation_id), ErrorCode::IllegalGeneration);
}
