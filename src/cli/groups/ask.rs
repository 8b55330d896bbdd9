//! Groups as a cluster's coordinators know them.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use crate::client::{
    BrokerError, ClientError, Cluster, ConnectionError, Group, read_assignment, read_subscribed_topics,
};
use crate::protocol::ErrorCode;
use crate::protocol::messages::consumer_group_describe_request::ConsumerGroupDescribeRequest;
use crate::protocol::messages::consumer_group_describe_response as consumer;
use crate::protocol::messages::describe_groups_request::DescribeGroupsRequest;
use crate::protocol::messages::describe_groups_response as classic;
use crate::protocol::messages::list_groups_request::ListGroupsRequest;

use super::view::{GroupView, Listed, MemberView};

/// Every group, from every broker; and the brokers that could not be asked.
pub(super) async fn list(cluster: &Cluster) -> (Vec<Listed>, Vec<ClientError>) {
    let (mut listed, mut troubles) = (Vec::new(), Vec::new());
    for &broker in cluster.latest().brokers.keys() {
        let ask = async || {
            let answer = cluster.send(broker, &ListGroupsRequest::default()).await?;
            BrokerError::check(answer.error_code, || format!("the groups of broker {broker}"), None)?;
            Ok(answer.groups)
        };
        match cluster.retrying(ask).await {
            Err(error) => troubles.push(error),
            Ok(groups) => listed.extend(groups.iter().map(|group| Listed {
                group: group.group_id.to_string(),
                // Brokers before 3.8 have no other type.
                kind: if group.group_type.is_empty() {
                    "classic".into()
                } else {
                    group.group_type.to_lowercase()
                },
                state: group.group_state.to_string(),
                protocol_type: group.protocol_type.to_string(),
                coordinator: Some(broker.0),
            })),
        }
    }
    listed.sort_by(|a, b| a.group.cmp(&b.group));
    (listed, troubles)
}

/// So many groups are asked about at once: a coordinator answers in turn, but nobody waits for each way there and back.
const AT_ONCE: usize = 64;

/// Asks about each of these; the answers stand in their order.
pub(super) async fn each<T, A, F>(items: impl IntoIterator<Item = T>, ask: impl Fn(T) -> F) -> Vec<A>
where
    A: Send + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let (mut running, mut answers) = (JoinSet::new(), Vec::new());
    for (at, item) in items.into_iter().enumerate() {
        if running.len() >= AT_ONCE {
            answers.extend(running.join_next().await);
        }
        let asked = ask(item);
        running.spawn(async move { (at, asked.await) });
    }
    while let Some(answer) = running.join_next().await {
        answers.push(answer);
    }
    // A question is never called off.
    let mut answers: Vec<(usize, A)> = answers.into_iter().flatten().collect();
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// One group; `None` where there is none of this name.
pub(super) async fn describe(cluster: &Cluster, name: &str) -> Result<Option<GroupView>, ClientError> {
    let group = Group::new(cluster, name);
    match describe_consumer(&group).await {
        Err(error) if is_other_type(&error) => describe_classic(&group).await,
        outcome => outcome.map(Some),
    }
}

/// Whether the group is of another type, or the broker knows only one.
fn is_other_type(error: &ClientError) -> bool {
    match error {
        ClientError::Connection(ConnectionError::UnsupportedVersion { .. }) => true,
        error => matches!(error.code(), Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion)),
    }
}

async fn describe_consumer(group: &Group) -> Result<GroupView, ClientError> {
    let request =
        |_| ConsumerGroupDescribeRequest { group_ids: vec![group.id().into()], ..Default::default() };
    let first_code = |response: &consumer::ConsumerGroupDescribeResponse| {
        response.groups.first().map_or(0, |group| group.error_code)
    };
    let response = group.ask(request, i16::MAX, first_code).await?;
    let found = response.groups.first().ok_or_else(|| unanswered(group))?;
    BrokerError::check(found.error_code, || about(group), found.error_message.as_deref())?;
    Ok(GroupView {
        group: group.id().to_owned(),
        kind: "consumer",
        state: found.group_state.to_string(),
        assignor: found.assignor_name.to_string(),
        coordinator: Some(group.coordinator().await?.0),
        epoch: Some(found.group_epoch),
        assignment_epoch: Some(found.assignment_epoch),
        members: found.members.iter().map(consumer_member).collect(),
    })
}

fn consumer_member(member: &consumer::Member) -> MemberView {
    let by_topic = |assignment: &consumer::Assignment| {
        let topics = assignment.topic_partitions.iter();
        topics.map(|topic| (topic.topic_name.to_string(), topic.partitions.clone())).collect()
    };
    let (assignment, target): (BTreeMap<String, Vec<i32>>, BTreeMap<String, Vec<i32>>) =
        (by_topic(&member.assignment), by_topic(&member.target_assignment));
    MemberView {
        member: member.member_id.to_string(),
        instance: member.instance_id.as_ref().map(ToString::to_string),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        rack: member.rack_id.as_ref().map(ToString::to_string),
        protocol: Some(if member.member_type == 0 { "classic" } else { "consumer" }),
        epoch: Some(member.member_epoch),
        topics: member.subscribed_topic_names.iter().map(ToString::to_string).collect(),
        regex: member.subscribed_topic_regex.as_deref().filter(|regex| !regex.is_empty()).map(str::to_owned),
        target: (assignment != target).then_some(target),
        assignment,
    }
}

async fn describe_classic(group: &Group) -> Result<Option<GroupView>, ClientError> {
    let request = |_| DescribeGroupsRequest { groups: vec![group.id().into()], ..Default::default() };
    let first_code = |response: &classic::DescribeGroupsResponse| {
        response.groups.first().map_or(0, |group| group.error_code)
    };
    let response = group.ask(request, i16::MAX, first_code).await?;
    let found = response.groups.first().ok_or_else(|| unanswered(group))?;
    let message = found.error_message.as_deref();
    match BrokerError::check(found.error_code, || about(group), message) {
        Err(error) if error.code == ErrorCode::GroupIdNotFound && !is_of_foreign_type(message) => {
            return Ok(None);
        }
        checked => checked?,
    }
    // Before version 6 a group that is not there is a dead one.
    if &*found.group_state == "Dead" {
        return Ok(None);
    }
    Ok(Some(GroupView {
        group: group.id().to_owned(),
        kind: "classic",
        state: found.group_state.to_string(),
        assignor: found.protocol_data.to_string(),
        coordinator: Some(group.coordinator().await?.0),
        epoch: None,
        assignment_epoch: None,
        members: found.members.iter().map(|member| classic_member(&found.protocol_type, member)).collect(),
    }))
}

/// A share or streams group is there, though not as a classic one: Kafka and klamm say so in words alone.
fn is_of_foreign_type(message: Option<&str>) -> bool {
    message.is_some_and(|message| message.contains("is not a") || message.contains("of another kind"))
}

fn classic_member(protocol_type: &str, member: &classic::DescribedGroupMember) -> MemberView {
    let mut view = MemberView {
        member: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(ToString::to_string),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        ..Default::default()
    };
    // What other kinds of groups tell each other is theirs.
    if protocol_type == "consumer" {
        view.topics = read_subscribed_topics(member.member_metadata.clone()).unwrap_or_default();
        for (topic, partition) in read_assignment(member.member_assignment.clone()).unwrap_or_default() {
            view.assignment.entry(topic.to_string()).or_default().push(partition);
        }
    }
    view
}

fn about(group: &Group) -> String {
    format!("group {}", group.id())
}

fn unanswered(group: &Group) -> ClientError {
    let message = Some("the coordinator did not answer for it".to_owned());
    BrokerError { code: ErrorCode::UnknownServerError, about: about(group), message }.into()
}
