//! A member of a classic group against answers that a coordinator could give, no clock and no socket.

use bytes::Bytes;

use super::*;
use crate::net::outgoing::ConnectionError;
use crate::protocol::messages::heartbeat_response::HeartbeatResponse;

fn parts(parts: &[i32]) -> Vec<Part> {
    parts.iter().map(|&partition| ("t".into(), partition)).collect()
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn member(assignors: &[Assignor]) -> Classic {
    let options = GroupOptions { assignors: assignors.to_vec(), ..Default::default() };
    let mut member = Classic::new("g", options, None, Backoff::default());
    subscribe(&mut member, 4);
    member
}

fn subscribe(member: &mut Classic, count: i32) {
    member.subscribed(at(0), &BTreeSet::from(["t".into()]), &Layout::from([("t".into(), count)]));
}

fn asked(member: &mut Classic, now: Duration) -> Question {
    match member.next(now) {
        Step::Ask(question) => *question,
        other => panic!("a question was expected, not {other:?}"),
    }
}

fn told(member: &mut Classic) -> Told {
    match member.next(at(0)) {
        Step::Tell(told) => told,
        other => panic!("news were expected, not {other:?}"),
    }
}

fn join_answer(code: ErrorCode, id: &str, generation: i32, leader: &str, protocol: Assignor) -> Answer {
    Answer::Join(JoinGroupResponse {
        error_code: code.code(),
        generation_id: generation,
        protocol_name: Some(protocol.name().into()),
        leader: leader.into(),
        member_id: id.into(),
        ..Default::default()
    })
}

fn sync_answer(share: &[i32]) -> Answer {
    Answer::Sync(SyncGroupResponse { assignment: encode_assignment(&parts(share)), ..Default::default() })
}

fn heartbeat_answer(code: ErrorCode) -> Result<Answer, ClientError> {
    Ok(Answer::Heartbeat(HeartbeatResponse { error_code: code.code(), ..Default::default() }))
}

/// Joins as a follower and gets `share`; what that tells is left in the queue.
fn settle(member: &mut Classic, now: Duration, generation: i32, share: &[i32]) {
    let assignor = member.options.assignors[0];
    assert!(matches!(asked(member, now), Question::Join(_)));
    member.answered(now, Ok(join_answer(ErrorCode::None, "m", generation, "leader", assignor)));
    let Question::Sync(sync) = asked(member, now) else { panic!("a follower syncs") };
    assert_eq!((sync.generation_id, sync.assignments.len()), (generation, 0));
    member.answered(now, Ok(sync_answer(share)));
}

#[test]
fn a_first_join_takes_the_id_it_is_given_and_tries_again_at_once() {
    let mut member = member(&[Assignor::Range]);
    let Question::Join(first) = asked(&mut member, at(0)) else { panic!() };
    assert!(first.member_id.is_empty());
    assert!(matches!(member.next(at(0)), Step::Wait(None)), "one question at a time");
    member.answered(at(0), Ok(join_answer(ErrorCode::MemberIdRequired, "m-1", -1, "", Assignor::Range)));
    let Question::Join(second) = asked(&mut member, at(0)) else { panic!() };
    assert_eq!(&*second.member_id, "m-1");
    assert_eq!((second.session_timeout_ms, second.rebalance_timeout_ms), (45_000, 300_000));
}

#[test]
fn the_leader_shares_out_what_all_members_want() {
    let mut leader = member(&[Assignor::Range, Assignor::CooperativeSticky]);
    let Question::Join(join) = asked(&mut leader, at(0)) else { panic!() };
    assert_eq!(join.protocols.iter().map(|p| &*p.name).collect::<Vec<_>>(), ["range", "cooperative-sticky"]);
    let mut answer = JoinGroupResponse {
        protocol_name: Some("range".into()),
        generation_id: 3,
        leader: "a".into(),
        member_id: "a".into(),
        ..Default::default()
    };
    for id in ["a", "b"] {
        let metadata = join.protocols[0].metadata.clone();
        let member = JoinGroupResponseMember { member_id: id.into(), metadata, ..Default::default() };
        answer.members.push(member);
    }
    // One that nobody can understand gets nothing, and holds nobody up.
    let strange = Bytes::from_static(b"?");
    answer.members.push(JoinGroupResponseMember {
        member_id: "c".into(),
        metadata: strange,
        ..Default::default()
    });
    leader.answered(at(0), Ok(Answer::Join(answer)));
    assert_eq!(asked(&mut leader, at(0)), Question::Layout(vec!["t".into()]));
    leader.answered(at(0), Ok(Answer::Layout(Layout::from([("t".into(), 4)]))));
    let Question::Sync(sync) = asked(&mut leader, at(0)) else { panic!() };
    let shares: Vec<_> =
        sync.assignments.iter().map(|share| read_assignment(share.assignment.clone()).unwrap()).collect();
    assert_eq!(shares, [parts(&[0, 1]), parts(&[2, 3]), parts(&[])]);
    assert_eq!((sync.generation_id, sync.protocol_name.as_deref()), (3, Some("range")));
}

#[test]
fn an_eager_member_lets_everything_go_before_it_joins_again() {
    let mut member = member(&[Assignor::Range]);
    settle(&mut member, at(0), 1, &[0, 1]);
    assert_eq!(told(&mut member), Told::Assigned(parts(&[0, 1])));
    assert!(matches!(asked(&mut member, at(3)), Question::Heartbeat(_)));
    member.answered(at(3), heartbeat_answer(ErrorCode::RebalanceInProgress));
    assert_eq!(told(&mut member), Told::Revoke(parts(&[0, 1])));
    // While the reader commits, the member stays alive.
    assert!(matches!(asked(&mut member, at(6)), Question::Heartbeat(_)));
    member.answered(at(6), heartbeat_answer(ErrorCode::RebalanceInProgress));
    member.released(at(7));
    let Question::Join(join) = asked(&mut member, at(7)) else { panic!("it joins once all is let go") };
    assert_eq!(&*join.member_id, "m");
}

#[test]
fn a_cooperative_member_keeps_what_it_keeps_and_joins_again_for_what_it_gave() {
    let mut member = member(&[Assignor::CooperativeSticky]);
    settle(&mut member, at(0), 1, &[0, 1, 2]);
    assert_eq!(told(&mut member), Told::Assigned(parts(&[0, 1, 2])));
    assert!(matches!(asked(&mut member, at(3)), Question::Heartbeat(_)));
    member.answered(at(3), heartbeat_answer(ErrorCode::RebalanceInProgress));
    settle(&mut member, at(3), 2, &[0, 1, 3]);
    assert_eq!(told(&mut member), Told::Revoke(parts(&[2])));
    member.released(at(4));
    assert_eq!(told(&mut member), Told::Assigned(parts(&[3])));
    let Question::Join(join) = asked(&mut member, at(4)) else { panic!("others shall have what it gave") };
    let said = read_subscription(Assignor::CooperativeSticky, "m", None, join.protocols[0].metadata.clone());
    let said = said.unwrap();
    assert_eq!((said.owned, said.generation), (parts(&[0, 1, 3]), 2));
}

#[test]
fn a_member_that_the_coordinator_forgot_has_lost_everything() {
    for code in [ErrorCode::UnknownMemberId, ErrorCode::IllegalGeneration] {
        let mut member = member(&[Assignor::Range]);
        settle(&mut member, at(0), 1, &[0]);
        told(&mut member);
        assert!(matches!(asked(&mut member, at(3)), Question::Heartbeat(_)));
        member.answered(at(3), heartbeat_answer(code));
        assert!(!member.identity().is_member());
        assert_eq!(told(&mut member), Told::Lost(parts(&[0])));
        let Question::Join(join) = asked(&mut member, at(3)) else { panic!() };
        assert_eq!(join.member_id.is_empty(), code == ErrorCode::UnknownMemberId);
    }
}

#[test]
fn what_was_released_too_late_changes_nothing() {
    let mut member = member(&[Assignor::Range]);
    settle(&mut member, at(0), 1, &[0]);
    told(&mut member);
    assert!(matches!(asked(&mut member, at(3)), Question::Heartbeat(_)));
    member.answered(at(3), heartbeat_answer(ErrorCode::RebalanceInProgress));
    assert_eq!(told(&mut member), Told::Revoke(parts(&[0])));
    assert!(matches!(asked(&mut member, at(6)), Question::Heartbeat(_)));
    member.answered(at(6), heartbeat_answer(ErrorCode::UnknownMemberId));
    assert_eq!(told(&mut member), Told::Lost(parts(&[0])));
    member.released(at(7));
    settle(&mut member, at(7), 2, &[1]);
    assert_eq!(told(&mut member), Told::Assigned(parts(&[1])));
}

#[test]
fn codes_that_pass_are_tried_again_later_and_others_are_final() {
    let mut member = member(&[Assignor::Range]);
    for attempt in 0..3 {
        let now = at(10 * attempt);
        assert!(matches!(asked(&mut member, now), Question::Join(_)));
        member.answered(
            now,
            Ok(join_answer(ErrorCode::CoordinatorLoadInProgress, "", -1, "", Assignor::Range)),
        );
        assert!(matches!(member.next(now), Step::Wait(Some(later)) if later > now));
    }
    assert!(matches!(asked(&mut member, at(60)), Question::Join(_)));
    member
        .answered(at(60), Ok(join_answer(ErrorCode::InconsistentGroupProtocol, "", -1, "", Assignor::Range)));
    let Step::Fail(error) = member.next(at(60)) else { panic!("there is no way on") };
    assert!(error.to_string().contains("INCONSISTENT_GROUP_PROTOCOL"), "{error}");
}

#[test]
fn a_coordinator_that_never_comes_back_is_given_up() {
    let mut member = member(&[Assignor::Range]);
    let mut now = at(0);
    for _ in 0..60 {
        match member.next(now) {
            Step::Ask(_) => {
                let gone = ClientError::from(ConnectionError::Disconnected {
                    peer: "h:1".into(),
                    why: "reset".into(),
                });
                member.answered(now, Err(gone));
            }
            other => panic!("{other:?}"),
        }
        now += at(2);
    }
    assert!(matches!(member.next(now), Step::Fail(_)));
}

#[test]
fn partitions_that_come_make_the_leader_share_out_again() {
    let mut leader = member(&[Assignor::Range]);
    let Question::Join(join) = asked(&mut leader, at(0)) else { panic!() };
    let metadata = join.protocols[0].metadata.clone();
    let mut answer = JoinGroupResponse { leader: "a".into(), member_id: "a".into(), ..Default::default() };
    (answer.protocol_name, answer.generation_id) = (Some("range".into()), 1);
    answer.members.push(JoinGroupResponseMember { member_id: "a".into(), metadata, ..Default::default() });
    leader.answered(at(0), Ok(Answer::Join(answer)));
    asked(&mut leader, at(0));
    leader.answered(at(0), Ok(Answer::Layout(Layout::from([("t".into(), 4)]))));
    asked(&mut leader, at(0));
    leader.answered(at(0), Ok(sync_answer(&[0, 1, 2, 3])));
    told(&mut leader);
    subscribe(&mut leader, 4);
    assert!(matches!(leader.next(at(1)), Step::Wait(_)), "nothing has changed");
    subscribe(&mut leader, 6);
    assert_eq!(told(&mut leader), Told::Revoke(parts(&[0, 1, 2, 3])));
    leader.released(at(1));
    assert!(matches!(asked(&mut leader, at(1)), Question::Join(_)));
}

#[test]
fn a_reader_that_stays_away_leaves_and_joins_anew_when_it_is_back() {
    let mut member = member(&[Assignor::Range]);
    settle(&mut member, at(0), 1, &[0]);
    told(&mut member);
    assert!(matches!(member.pause(), Some(Goodbye::Classic(leave)) if &*leave.member_id == "m"));
    assert_eq!(told(&mut member), Told::Lost(parts(&[0])));
    assert!(matches!(member.next(at(400)), Step::Wait(None)));
    member.resume(at(500));
    let Question::Join(join) = asked(&mut member, at(500)) else { panic!() };
    assert!(join.member_id.is_empty());
}

#[test]
fn a_static_member_leaves_without_a_word() {
    let options = GroupOptions { instance_id: Some("i".into()), ..Default::default() };
    let mut member = Classic::new("g", options, None, Backoff::default());
    subscribe(&mut member, 1);
    settle(&mut member, at(0), 1, &[0]);
    assert!(member.goodbye().is_none());
    assert_eq!(member.identity().instance_id.as_deref(), Some("i"));
}
