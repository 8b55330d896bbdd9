//! What is known of groups: facts, wherever they come from.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::types::TopicPartition;

/// One group in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Listed {
    pub(super) group: String,
    /// `classic`, `consumer`, `share`, `streams`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Kafka's word: `Stable`, `Empty`, …
    pub(super) state: String,
    /// What a classic group is for; empty where its offsets were committed by nobody's member.
    pub(super) protocol_type: String,
    pub(super) coordinator: Option<i32>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct GroupView {
    pub(super) group: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) state: String,
    /// What partitions are shared out by.
    pub(super) assignor: String,
    pub(super) coordinator: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) assignment_epoch: Option<i32>,
    pub(super) members: Vec<MemberView>,
}

/// One member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct MemberView {
    pub(super) member: String,
    pub(super) instance: Option<String>,
    pub(super) client: String,
    pub(super) host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rack: Option<String>,
    /// In a group of type `consumer`: the protocol that this member speaks, and its epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<i32>,
    pub(super) topics: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) regex: Option<String>,
    pub(super) assignment: BTreeMap<String, Vec<i32>>,
    /// Where it shall get to, where it is not there yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<BTreeMap<String, Vec<i32>>>,
}

/// How far a group is in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Progress {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    /// What is committed.
    pub(super) current: Option<i64>,
    /// The log's first offset; unknown where the partition is gone.
    pub(super) start: Option<i64>,
    /// The log's end.
    pub(super) end: Option<i64>,
    /// What is there and not committed. Where nothing is committed, all that is there.
    pub(super) lag: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<String>,
    pub(super) member: Option<String>,
    pub(super) client: Option<String>,
    pub(super) host: Option<String>,
}

impl GroupView {
    /// Whether somebody is in it, or may be about to be.
    pub(super) fn is_active(&self) -> bool {
        !(self.state.eq_ignore_ascii_case("Empty") || self.state.eq_ignore_ascii_case("Dead"))
    }

    /// Who has a partition.
    pub(super) fn member_of(&self, partition: &TopicPartition) -> Option<&MemberView> {
        let has = |member: &&MemberView| {
            let of_topic = member.assignment.get(partition.topic.as_str());
            of_topic.is_some_and(|partitions| partitions.contains(&partition.partition))
        };
        self.members.iter().find(has)
    }

    /// Members in a few words, for a refusal.
    pub(super) fn members_in_words(&self) -> String {
        let name =
            |member: &MemberView| format!("{} at {}", member.client, member.host.trim_start_matches('/'));
        let mut names: Vec<String> = self.members.iter().map(name).collect();
        names.sort();
        names.dedup();
        let more = names.len().saturating_sub(3);
        names.truncate(3);
        if more > 0 {
            names.push(format!("{more} more"));
        }
        names.join(", ")
    }
}

/// Partitions as people write them: `orders:0,2-4 returns:1`.
pub(super) fn in_words(partitions: &BTreeMap<String, Vec<i32>>) -> String {
    let topic = |(topic, partitions): (&String, &Vec<i32>)| {
        let mut sorted = partitions.clone();
        sorted.sort_unstable();
        let mut ranges: Vec<(i32, i32)> = Vec::new();
        for partition in sorted {
            match ranges.last_mut() {
                Some(last) if last.1 + 1 == partition => last.1 = partition,
                _ => ranges.push((partition, partition)),
            }
        }
        let range = |&(first, last): &(i32, i32)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        format!("{topic}:{}", ranges.iter().map(range).collect::<Vec<_>>().join(","))
    };
    partitions.iter().map(topic).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_written_as_they_are_read() {
        let partitions = BTreeMap::from([("t".to_owned(), vec![4, 0, 2, 3]), ("u".to_owned(), vec![1])]);
        assert_eq!(in_words(&partitions), "t:0,2-4 u:1");
        assert_eq!(in_words(&BTreeMap::new()), "");
    }

    #[test]
    fn many_members_are_a_few_words() {
        let member = |client: &str| MemberView {
            client: client.to_owned(),
            host: "/10.0.0.1".to_owned(),
            ..Default::default()
        };
        let group = GroupView {
            group: "g".to_owned(),
            kind: "classic",
            state: "Stable".to_owned(),
            assignor: String::new(),
            coordinator: None,
            epoch: None,
            assignment_epoch: None,
            members: ["e", "a", "b", "b", "c", "d"].map(member).to_vec(),
        };
        assert!(group.is_active());
        assert_eq!(group.members_in_words(), "a at 10.0.0.1, b at 10.0.0.1, c at 10.0.0.1, 2 more");
    }
}
