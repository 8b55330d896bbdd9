//! ConsumerGroupDescribe (69), versions 0 and 1: a group as it stands. Version 1 says which members use the
//! classic protocol.

use crate::coordinator::assignor::Partitions;
use crate::coordinator::group::Group;
use crate::coordinator::partition::is_group_id;
use crate::coordinator::state::State;
use crate::coordinator::step::Step;
use crate::metadata::Image;
use crate::protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};
use crate::protocol::{ErrorCode, Str};

use super::member::Member;
use super::{ConsumerGroup, DEFAULT_ASSIGNOR};

/// Kafka's number of a member that uses the classic protocol.
const CLASSIC_MEMBER: i8 = 0;
/// Kafka's number of a member that uses the consumer protocol.
const CONSUMER_MEMBER: i8 = 1;

impl State {
    /// ConsumerGroupDescribe, of one group.
    pub(in crate::coordinator) fn describe_consumer_group(
        &self,
        step: &Step<'_>,
        group_id: &Str,
    ) -> DescribedGroup {
        let (code, message) = match self.groups.get(group_id) {
            _ if !is_group_id(group_id) => (ErrorCode::InvalidGroupId, "which group is meant?".to_owned()),
            Some(Group::Consumer(group)) => return group.describe(step),
            Some(_) => (ErrorCode::GroupIdNotFound, format!("{group_id} is a group of another kind")),
            None => (ErrorCode::GroupIdNotFound, format!("there is no group {group_id}")),
        };
        DescribedGroup {
            group_id: group_id.clone(),
            error_code: code.code(),
            error_message: Some(message.into()),
            ..DescribedGroup::default()
        }
    }
}

impl ConsumerGroup {
    fn describe(&self, step: &Step<'_>) -> DescribedGroup {
        let default = step.settings.consumer_assignors.first().map_or(DEFAULT_ASSIGNOR, String::as_str);
        DescribedGroup {
            group_id: self.id.clone(),
            group_state: Str::from_static(self.state_name()),
            group_epoch: self.group_epoch,
            assignment_epoch: self.assignment_epoch,
            assignor_name: self.preferred_assignor().cloned().unwrap_or_else(|| default.into()),
            members: self.members.values().map(|member| self.describe_member(member, step.image)).collect(),
            ..DescribedGroup::default()
        }
    }

    fn describe_member(&self, member: &Member, image: &Image) -> DescribedMember {
        let held = member.assigned.iter().chain(member.pending_revocation.iter());
        let held: Partitions = held.map(|(topic, partition, _)| (topic, partition)).collect();
        DescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            member_epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            subscribed_topic_names: member.topics.to_vec(),
            subscribed_topic_regex: member.regex.clone(),
            assignment: named(&held, image),
            target_assignment: self.target(&member.id).map(|target| named(target, image)).unwrap_or_default(),
            member_type: if member.classic.is_some() { CLASSIC_MEMBER } else { CONSUMER_MEMBER },
            ..DescribedMember::default()
        }
    }
}

/// Partitions with their topics' names; topics that are gone are left out.
fn named(partitions: &Partitions, image: &Image) -> Assignment {
    let topics = partitions.iter().filter_map(|(topic_id, partitions)| {
        let topic = image.topic_by_id(topic_id)?;
        Some(TopicPartitions {
            topic_id,
            topic_name: topic.name.as_str().into(),
            partitions: partitions.to_vec(),
            ..TopicPartitions::default()
        })
    });
    Assignment { topic_partitions: topics.collect(), ..Assignment::default() }
}
