//! A member of a KIP-848 group against answers that a coordinator could give, no clock and no socket.

use super::*;
use crate::net::outgoing::ConnectionError;
use crate::protocol::messages::consumer_group_heartbeat_response::TopicPartitions as Given;

const ID: Uuid = Uuid([7; 16]);

fn parts(parts: &[i32]) -> Vec<Part> {
    parts.iter().map(|&partition| ("t".into(), partition)).collect()
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn member() -> Reconciling {
    let options = GroupOptions { remote_assignor: Some("range".into()), ..Default::default() };
    let mut member = Reconciling::new("g", "id", options, None, None, Backoff::default());
    member.subscribed(at(0), &BTreeSet::from(["t".into()]), &Layout::new());
    member
}

fn heartbeat(member: &mut Reconciling, now: Duration) -> ConsumerGroupHeartbeatRequest {
    match member.next(now) {
        Step::Ask(question) => match *question {
            Question::Reconcile(request) => request,
            other => panic!("a heartbeat was expected, not {other:?}"),
        },
        other => panic!("a heartbeat was expected, not {other:?}"),
    }
}

fn told(member: &mut Reconciling, now: Duration) -> Told {
    match member.next(now) {
        Step::Tell(told) => told,
        other => panic!("news were expected, not {other:?}"),
    }
}

fn answer(member: &mut Reconciling, now: Duration, epoch: i32, target: Option<&[i32]>) {
    let given = |target: &[i32]| Assignment {
        topic_partitions: vec![Given { topic_id: ID, partitions: target.to_vec(), ..Default::default() }],
        ..Default::default()
    };
    let response = ConsumerGroupHeartbeatResponse {
        member_id: Some("id".into()),
        member_epoch: epoch,
        heartbeat_interval_ms: 5_000,
        assignment: target.map(given),
        ..Default::default()
    };
    member.answered(now, Ok(Answer::Reconcile(response)));
}

fn owned(request: &ConsumerGroupHeartbeatRequest) -> Option<Vec<i32>> {
    let topics = request.topic_partitions.as_ref()?;
    Some(topics.iter().flat_map(|topic| topic.partitions.clone()).collect())
}

fn name_topics(member: &mut Reconciling, now: Duration) {
    assert!(matches!(member.next(now), Step::Ask(question) if *question == Question::Names(vec![ID])));
    member.answered(now, Ok(Answer::Names(BTreeMap::from([(ID, "t".into())]))));
}

/// A member that owns `owned` in epoch 3, at second 0.
fn settled(parts_owned: &[i32]) -> Reconciling {
    let mut member = member();
    heartbeat(&mut member, at(0));
    answer(&mut member, at(0), 3, Some(parts_owned));
    name_topics(&mut member, at(0));
    assert_eq!(told(&mut member, at(0)), Told::Assigned(parts(parts_owned)));
    assert_eq!(owned(&heartbeat(&mut member, at(0))), Some(parts_owned.to_vec()));
    answer(&mut member, at(0), 3, None);
    member
}

#[test]
fn the_first_heartbeat_says_everything_and_later_ones_only_what_changed() {
    let mut member = member();
    let first = heartbeat(&mut member, at(0));
    assert_eq!((first.member_epoch, &*first.member_id, owned(&first)), (0, "id", Some(vec![])));
    assert_eq!(first.subscribed_topic_names.as_deref(), Some(&["t".into()][..]));
    assert_eq!((first.rebalance_timeout_ms, first.server_assignor.as_deref()), (300_000, Some("range")));
    answer(&mut member, at(0), 1, Some(&[0]));
    name_topics(&mut member, at(0));
    told(&mut member, at(0));
    let second = heartbeat(&mut member, at(0));
    assert_eq!((second.member_epoch, owned(&second)), (1, Some(vec![0])));
    assert_eq!((second.subscribed_topic_names, second.rebalance_timeout_ms), (None, -1));
    answer(&mut member, at(0), 1, None);
    assert!(matches!(member.next(at(1)), Step::Wait(Some(next)) if next == at(5)), "as the broker asks");
    assert_eq!(owned(&heartbeat(&mut member, at(5))), None);
}

#[test]
fn what_is_to_go_goes_before_anything_comes_and_is_reported_at_once() {
    let mut member = settled(&[0, 1]);
    assert_eq!(owned(&heartbeat(&mut member, at(5))), None);
    answer(&mut member, at(5), 4, Some(&[1, 2]));
    assert_eq!(told(&mut member, at(5)), Told::Revoke(parts(&[0])));
    // The reader takes its time: heartbeats go on, and still say nothing new.
    assert_eq!(owned(&heartbeat(&mut member, at(10))), None);
    answer(&mut member, at(10), 4, None);
    member.released(at(11));
    assert_eq!(told(&mut member, at(11)), Told::Assigned(parts(&[2])));
    assert_eq!(owned(&heartbeat(&mut member, at(11))), Some(vec![1, 2]));
}

#[test]
fn a_member_that_is_fenced_has_lost_everything_and_starts_again() {
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
        let mut member = settled(&[0]);
        heartbeat(&mut member, at(5));
        let refused = ConsumerGroupHeartbeatResponse { error_code: code.code(), ..Default::default() };
        member.answered(at(5), Ok(Answer::Reconcile(refused)));
        assert_eq!(told(&mut member, at(5)), Told::Lost(parts(&[0])));
        let again = heartbeat(&mut member, at(5));
        assert_eq!((again.member_epoch, owned(&again)), (0, Some(vec![])));
        assert!(again.subscribed_topic_names.is_some());
    }
}

#[test]
fn after_an_answer_that_was_lost_everything_is_said_again() {
    let mut member = settled(&[0]);
    heartbeat(&mut member, at(5));
    member.answered(
        at(5),
        Err(ClientError::from(ConnectionError::Disconnected { peer: "h:1".into(), why: "reset".into() })),
    );
    assert!(matches!(member.next(at(5)), Step::Wait(Some(later)) if later > at(5)));
    let again = heartbeat(&mut member, at(6));
    assert_eq!((again.member_epoch, owned(&again)), (3, Some(vec![0])));
    assert!(again.subscribed_topic_names.is_some());
}

#[test]
fn topics_whose_names_nobody_knows_yet_wait() {
    let mut member = member();
    heartbeat(&mut member, at(0));
    answer(&mut member, at(0), 1, Some(&[0]));
    assert!(matches!(member.next(at(0)), Step::Ask(question) if *question == Question::Names(vec![ID])));
    member.answered(at(0), Ok(Answer::Names(BTreeMap::new())));
    assert!(matches!(member.next(at(0)), Step::Wait(Some(_))));
    name_topics(&mut member, at(1));
    assert_eq!(told(&mut member, at(1)), Told::Assigned(parts(&[0])));
}

#[test]
fn goodbye_is_for_good_unless_the_member_is_static() {
    let is = |member: &Reconciling, epoch: i32| matches!(member.goodbye(), Some(Goodbye::Reconciling(request)) if request.member_epoch == epoch);
    assert!(is(&settled(&[0]), -1));
    let mut member = settled(&[0]);
    member.options.instance_id = Some("i".into());
    assert!(is(&member, -2));
}

#[test]
fn a_group_without_a_share_for_this_member_says_so() {
    let mut member = member();
    heartbeat(&mut member, at(0));
    answer(&mut member, at(0), 1, None);
    assert_eq!(told(&mut member, at(0)), Told::Assigned(Vec::new()));
}
