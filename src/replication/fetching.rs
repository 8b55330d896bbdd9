//! The follower's side of an incremental fetch session: which partitions a request has to name, and what its answer
//! is about.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::following::Position;
use super::partition::Partition;
use crate::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use crate::protocol::messages::fetch_response::{FetchResponse, PartitionData};
use crate::protocol::{ErrorCode, Str};
use crate::types::{BrokerId, TopicPartition, Uuid};

/// From this version on topics are named by id.
const TOPIC_IDS_FROM: i16 = 13;

/// A partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its topic.
    pub topic_id: Uuid,
    /// Its number.
    pub partition: i32,
}

impl Key {
    /// Which of `fetchers` to one leader is its own.
    #[must_use]
    pub fn slot(&self, fetchers: usize) -> usize {
        let topic =
            self.topic_id.0.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
        topic.wrapping_add(self.partition.unsigned_abs() as usize) % fetchers.max(1)
    }
}

/// The key of a partition.
#[must_use]
pub fn key_of(partition: &Partition) -> Key {
    Key { topic_id: partition.topic_id(), partition: partition.id().partition }
}

/// What an answer is about.
#[derive(Debug)]
pub enum Answered {
    /// Each partition that it names, with what was asked of it last.
    Partitions(Vec<(Key, Position, PartitionData)>),
    /// The leader does not know the session: everything is named anew.
    SessionEnded,
    /// The leader refuses the request as a whole.
    Refused(ErrorCode),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Session {
    id: i32,
    /// 0 asks for a new session.
    epoch: i32,
    /// What the leader knows of each partition of the session.
    told: HashMap<Key, (Position, TopicPartition)>,
    /// To be named in the next request: new, or moved.
    moved: BTreeSet<Key>,
    /// To be taken out with the next request.
    gone: BTreeMap<Key, TopicPartition>,
}

impl Session {
    /// The connection broke or the session was lost: all that is fetched is named anew.
    pub fn reset(&mut self) {
        self.moved.extend(self.told.drain().map(|(key, _)| key));
        self.gone.clear();
        (self.id, self.epoch) = (0, 0);
    }

    /// A partition is to be fetched, from where it stands now.
    pub fn touch(&mut self, key: Key) {
        self.moved.insert(key);
        self.gone.remove(&key);
    }

    /// A partition is not to be fetched any more.
    pub fn forget(&mut self, key: Key) {
        self.moved.remove(&key);
        if let Some((_, id)) = self.told.remove(&key) {
            self.gone.insert(key, id);
        }
    }

    /// Whether there is nothing to fetch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// The next request. `position` says where a partition stands; one that does not follow `leader` is left out.
    pub fn request(
        &mut self,
        leader: BrokerId,
        position: impl Fn(&Key) -> Option<(Position, TopicPartition)>,
    ) -> FetchRequest {
        let mut topics: BTreeMap<Uuid, FetchTopic> = BTreeMap::new();
        for key in std::mem::take(&mut self.moved) {
            let Some((at, id)) = position(&key).filter(|(at, _)| at.leader == leader) else {
                self.forget(key);
                continue;
            };
            let is_news = self.told.get(&key).is_none_or(|(told, _)| *told != at);
            if is_news {
                let topic = topics.entry(key.topic_id).or_insert_with(|| FetchTopic {
                    topic: id.topic.as_str().into(),
                    topic_id: key.topic_id,
                    ..FetchTopic::default()
                });
                topic.partitions.push(asking(key.partition, &at));
                self.told.insert(key, (at, id));
            }
        }
        FetchRequest {
            session_id: self.id,
            session_epoch: self.epoch,
            topics: topics.into_values().collect(),
            forgotten_topics_data: if self.epoch == 0 { Vec::new() } else { self.forgotten() },
            ..FetchRequest::default()
        }
    }

    fn forgotten(&mut self) -> Vec<ForgottenTopic> {
        let mut topics: BTreeMap<Uuid, ForgottenTopic> = BTreeMap::new();
        for (key, id) in std::mem::take(&mut self.gone) {
            // One that came back meanwhile has just been named.
            if self.told.contains_key(&key) {
                continue;
            }
            let topic = topics.entry(key.topic_id).or_insert_with(|| ForgottenTopic {
                topic: id.topic.as_str().into(),
                topic_id: key.topic_id,
                ..ForgottenTopic::default()
            });
            topic.partitions.push(key.partition);
        }
        topics.into_values().collect()
    }

    /// Takes an answer apart.
    pub fn answered(&mut self, version: i16, response: FetchResponse) -> Answered {
        match ErrorCode::from_wire(response.error_code) {
            ErrorCode::None => {}
            ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::FetchSessionTopicIdError => {
                self.reset();
                return Answered::SessionEnded;
            }
            code => {
                self.reset();
                return Answered::Refused(code);
            }
        }
        let by_name: HashMap<Str, Uuid> = match version {
            TOPIC_IDS_FROM.. => HashMap::new(),
            _ => self.told.iter().map(|(key, (_, id))| (id.topic.as_str().into(), key.topic_id)).collect(),
        };
        let mut answers = Vec::new();
        for topic in response.responses {
            let topic_id = by_name.get(&topic.topic).copied().unwrap_or(topic.topic_id);
            for data in topic.partitions {
                let key = Key { topic_id, partition: data.partition_index };
                if let Some((asked, _)) = self.told.get(&key) {
                    answers.push((key, *asked, data));
                }
            }
        }
        if response.session_id == 0 {
            // The leader has no room for a session: everything is named every time.
            self.reset();
        } else {
            self.id = response.session_id;
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        }
        Answered::Partitions(answers)
    }
}

fn asking(partition: i32, at: &Position) -> FetchPartition {
    FetchPartition {
        partition,
        current_leader_epoch: at.leader_epoch.0,
        fetch_offset: at.fetch_offset.0,
        last_fetched_epoch: at.last_fetched_epoch.0,
        log_start_offset: at.log_start_offset.0,
        ..FetchPartition::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::fetch_response::FetchableTopicResponse;
    use crate::types::{LeaderEpoch, Offset, TopicName};

    const LEADER: BrokerId = BrokerId(2);

    fn key(partition: i32) -> Key {
        Key { topic_id: Uuid([7; 16]), partition }
    }

    fn at(key: &Key, offset: i64) -> Option<(Position, TopicPartition)> {
        let position = Position {
            leader: LEADER,
            leader_epoch: LeaderEpoch(1),
            fetch_offset: Offset(offset),
            last_fetched_epoch: LeaderEpoch(1),
            log_start_offset: Offset(0),
        };
        Some((position, TopicPartition::new(TopicName::new("t").unwrap(), key.partition)))
    }

    fn named(request: &FetchRequest) -> Vec<i32> {
        request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|it| it.partition)).collect()
    }

    fn answer(partitions: &[i32], session_id: i32) -> FetchResponse {
        let data = |partition_index: &i32| PartitionData {
            partition_index: *partition_index,
            ..PartitionData::default()
        };
        let topic = FetchableTopicResponse {
            topic_id: Uuid([7; 16]),
            partitions: partitions.iter().map(data).collect(),
            ..FetchableTopicResponse::default()
        };
        FetchResponse { session_id, responses: vec![topic], ..FetchResponse::default() }
    }

    fn answered(session: &mut Session, response: FetchResponse) -> Vec<i32> {
        match session.answered(17, response) {
            Answered::Partitions(answers) => answers.iter().map(|(key, ..)| key.partition).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_names_what_has_moved_and_takes_out_what_is_gone() {
        let mut session = Session::default();
        (0..3).for_each(|partition| session.touch(key(partition)));
        let request = session.request(LEADER, |key| at(key, 5));
        assert_eq!((named(&request), request.session_epoch), (vec![0, 1, 2], 0));
        assert_eq!(answered(&mut session, answer(&[0, 1, 2], 9)), [0, 1, 2]);
        session.touch(key(1));
        session.touch(key(2));
        session.forget(key(0));
        let request = session.request(LEADER, |key| at(key, if key.partition == 1 { 6 } else { 5 }));
        assert_eq!((request.session_id, request.session_epoch), (9, 1));
        assert_eq!(named(&request), [1], "what did not move is known");
        assert_eq!(request.forgotten_topics_data[0].partitions, [0]);
        assert_eq!(answered(&mut session, answer(&[0, 2], 9)), [2], "what is gone is nobody's");
    }

    #[test]
    fn a_lost_session_begins_anew_with_everything() {
        let mut session = Session::default();
        (0..2).for_each(|partition| session.touch(key(partition)));
        session.request(LEADER, |key| at(key, 5));
        answered(&mut session, answer(&[0], 9));
        let lost = FetchResponse {
            error_code: ErrorCode::FetchSessionIdNotFound.code(),
            ..FetchResponse::default()
        };
        assert!(matches!(session.answered(17, lost), Answered::SessionEnded));
        let request = session.request(LEADER, |key| at(key, 5));
        assert_eq!((named(&request), request.session_id, request.session_epoch), (vec![0, 1], 0, 0));
        assert_eq!(answered(&mut session, answer(&[0, 1], 0)), [0, 1]);
        assert_eq!(
            named(&session.request(LEADER, |key| at(key, 5))),
            [0, 1],
            "there was no room for a session"
        );
    }

    #[test]
    fn a_partition_that_has_another_leader_is_left_out() {
        let mut session = Session::default();
        session.touch(key(0));
        session.touch(key(1));
        let other = |key: &Key| at(key, 5).filter(|_| key.partition == 1);
        assert_eq!(named(&session.request(LEADER, other)), [1]);
        assert!(!session.is_empty());
        session.forget(key(1));
        assert!(session.is_empty());
        assert_eq!(named(&session.request(BrokerId(3), |key| at(key, 5))), Vec::<i32>::new());
    }
}
