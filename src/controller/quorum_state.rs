//! `quorum-state`: who leads the quorum, in which epoch, and whom this node voted for. JSON, in two forms:
//! data_version 0 lists static voters, data_version 1 (kraft.version 1) does not.

use serde_json::Value;

use crate::types::{LeaderEpoch, Uuid};

use super::quorum::{ElectionState, ReplicaKey};

/// The file's content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct QuorumState {
    pub cluster_id: String,
    pub leader_id: i32,
    pub leader_epoch: i32,
    /// Id -1 where it has not voted in the epoch.
    pub voted: ReplicaKey,
    /// Listed where voters are static.
    pub current_voters: Option<Vec<i32>>,
}

impl QuorumState {
    /// Reads the file; the error says what is wrong in it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))?;
        let integer = |value: &Value, name: &str| {
            let number = value.get(name).and_then(Value::as_i64);
            number.and_then(|number| i32::try_from(number).ok()).ok_or_else(|| format!("{name} is missing"))
        };
        let data_version = integer(&json, "data_version")?;
        if !(0..=1).contains(&data_version) {
            return Err(format!("data_version is {data_version}; 0 and 1 are known"));
        }
        let current_voters = match json.get("currentVoters").and_then(Value::as_array) {
            Some(voters) if data_version == 0 => {
                Some(voters.iter().map(|voter| integer(voter, "voterId")).collect::<Result<_, _>>()?)
            }
            _ => None,
        };
        Ok(Self {
            cluster_id: json.get("clusterId").and_then(Value::as_str).unwrap_or_default().to_owned(),
            leader_id: integer(&json, "leaderId")?,
            leader_epoch: integer(&json, "leaderEpoch")?,
            voted: ReplicaKey {
                id: json.get("votedId").map_or(Ok(-1), |_| integer(&json, "votedId"))?,
                directory_id: json
                    .get("votedDirectoryId")
                    .and_then(Value::as_str)
                    .and_then(|id| id.parse().ok())
                    .unwrap_or(Uuid::ZERO),
            },
            current_voters,
        })
    }

    /// What the quorum remembers of elections.
    pub(super) fn election(&self) -> ElectionState {
        ElectionState {
            epoch: LeaderEpoch(self.leader_epoch),
            leader_id: (self.leader_id >= 0).then_some(self.leader_id),
            voted: (self.voted.id >= 0).then_some(self.voted),
        }
    }

    /// The file's text, in Kafka's order.
    pub(super) fn render(&self) -> Vec<u8> {
        let (leader, epoch, voted) = (self.leader_id, self.leader_epoch, self.voted.id);
        let text = match &self.current_voters {
            Some(voters) => {
                let voters: Vec<String> = voters.iter().map(|id| format!(r#"{{"voterId":{id}}}"#)).collect();
                let voters = voters.join(",");
                format!(
                    r#"{{"clusterId":"","leaderId":{leader},"leaderEpoch":{epoch},"votedId":{voted},"appliedOffset":0,"currentVoters":[{voters}],"data_version":0}}"#
                )
            }
            None => format!(
                r#"{{"leaderId":{leader},"leaderEpoch":{epoch},"votedId":{voted},"votedDirectoryId":"{}","data_version":1}}"#,
                self.voted.directory_id
            ),
        };
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_kafkas_to_the_letter() {
        let dynamic = r#"{"leaderId":1,"leaderEpoch":1,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}"#;
        let fixed = r#"{"clusterId":"","leaderId":1,"leaderEpoch":7,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1}],"data_version":0}"#;
        for text in [dynamic, fixed] {
            let state = QuorumState::parse(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(state.render()).unwrap(), text);
        }
    }

    #[test]
    fn a_file_that_is_none_is_refused() {
        for (text, word) in [
            ("", "JSON"),
            ("{}", "data_version"),
            (r#"{"data_version":2}"#, "0 and 1"),
            (r#"{"data_version":1,"leaderId":99999999999}"#, "leaderId"),
        ] {
            let error = QuorumState::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
