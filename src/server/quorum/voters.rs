//! DescribeQuorum (55), AddRaftVoter (80), RemoveRaftVoter (81): how the quorum is, and who votes in it. The quorum's
//! leader answers; a broker passes them on to it.

use crate::controller::quorum::{ReplicaKey, ReplicaProgress, Response, Voter, VoterChangeRequest, wire};
use crate::controller::{Controller, QuorumDescription};
use crate::net::{Answer, Reply};
use crate::protocol::messages::add_raft_voter_request::AddRaftVoterRequest;
use crate::protocol::messages::add_raft_voter_response::AddRaftVoterResponse;
use crate::protocol::messages::describe_quorum_request::DescribeQuorumRequest;
use crate::protocol::messages::describe_quorum_response::{
    DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use crate::protocol::messages::remove_raft_voter_request::RemoveRaftVoterRequest;
use crate::protocol::messages::remove_raft_voter_response::RemoveRaftVoterResponse;
use crate::protocol::{DecodeError, ErrorCode, Str};
use crate::server::call::{Call, text};

/// DescribeQuorum, versions 0 to 2.
pub fn describe(controller: &Controller, mut call: Call) -> Result<Reply, DecodeError> {
    let request: DescribeQuorumRequest = call.decode()?;
    call.forget_frame();
    let controller = controller.clone();
    Ok(Reply::Later(Box::pin(async move {
        let is_metadata = matches!(&*request.topics, [topic] if &*topic.topic_name == wire::TOPIC
            && matches!(&*topic.partitions, [partition] if partition.partition_index == 0));
        if !is_metadata {
            let response = DescribeQuorumResponse {
                error_code: ErrorCode::InvalidRequest.code(),
                error_message: text("Only partition 0 of __cluster_metadata has a quorum."),
                ..Default::default()
            };
            return call.answer(&response);
        }
        let known = controller.describe_quorum().await;
        if known.as_ref().is_none_or(|known| !known.leads)
            && let Some(response) = controller.pass_on(&request).await
        {
            return call.answer(&response);
        }
        call.answer(&described(&known.unwrap_or_default()))
    })))
}

fn described(known: &QuorumDescription) -> DescribeQuorumResponse {
    let state = |replica: &ReplicaProgress| ReplicaState {
        replica_id: replica.key.id,
        replica_directory_id: replica.key.directory_id,
        log_end_offset: replica.offset.0,
        last_fetch_timestamp: replica.last_fetch_ms,
        last_caught_up_timestamp: replica.last_caught_up_ms,
        ..Default::default()
    };
    let error = if known.leads { ErrorCode::None } else { ErrorCode::NotLeaderOrFollower };
    let partition = PartitionData {
        partition_index: 0,
        error_code: error.code(),
        error_message: (!known.leads).then(|| not_leading(known.leader_id)),
        leader_id: known.leader_id.unwrap_or(-1),
        leader_epoch: known.epoch,
        high_watermark: known.high_watermark.0,
        current_voters: known.voters.iter().map(state).collect(),
        observers: known.observers.iter().map(state).collect(),
        ..Default::default()
    };
    let topic =
        TopicData { topic_name: wire::TOPIC.into(), partitions: vec![partition], ..Default::default() };
    DescribeQuorumResponse {
        topics: vec![topic],
        nodes: known.nodes.iter().map(node).collect(),
        ..Default::default()
    }
}

/// Why this node does not describe the quorum.
fn not_leading(leader: Option<i32>) -> Str {
    Str::from(match leader {
        None => "The quorum has no leader, as where most of the voters are away.".to_owned(),
        Some(id) => {
            format!(
                "This node does not lead the quorum and has no answer of who does: node {id}, as far as it knows."
            )
        }
    })
}

fn node(voter: &Voter) -> Node {
    Node {
        node_id: voter.key.id,
        listeners: wire::listeners!(Listener, voter.endpoints),
        ..Default::default()
    }
}

/// What came of a change: its code, and words for the user.
async fn changed(controller: &Controller, request: VoterChangeRequest) -> (ErrorCode, Option<Str>) {
    match controller.change_voters(request).await {
        Some(Response::VoterChange { error, message }) => (error, message.map(Str::from)),
        _ => (ErrorCode::NotLeaderOrFollower, text("This node takes no part in a quorum.")),
    }
}

fn checked(cluster_id: Option<&Str>, own: &str) -> Result<(), (ErrorCode, Option<Str>)> {
    wire::check_cluster(cluster_id, own).map_err(|code| (code, text(format!("This is cluster {own}."))))
}

/// AddRaftVoter, versions 0 and 1.
pub fn add(controller: &Controller, cluster_id: &str, mut call: Call) -> Result<Reply, DecodeError> {
    let request: AddRaftVoterRequest = call.decode()?;
    call.forget_frame();
    let (controller, checked) = (controller.clone(), checked(request.cluster_id.as_ref(), cluster_id));
    Ok(Reply::Later(Box::pin(async move {
        if checked.is_ok()
            && let Some(response) = controller.pass_on(&request).await
        {
            return call.answer(&response);
        }
        let (code, error_message) = match checked {
            Ok(()) => changed(&controller, wire::add::asked(&request)).await,
            Err(refused) => refused,
        };
        let error_code = code.code();
        call.answer(&AddRaftVoterResponse { error_code, error_message, ..Default::default() })
    })))
}

/// RemoveRaftVoter, version 0.
pub fn remove(controller: &Controller, cluster_id: &str, mut call: Call) -> Result<Reply, DecodeError> {
    let request: RemoveRaftVoterRequest = call.decode()?;
    call.forget_frame();
    let (controller, checked) = (controller.clone(), checked(request.cluster_id.as_ref(), cluster_id));
    Ok(Reply::Later(Box::pin(async move {
        if checked.is_ok()
            && let Some(response) = controller.pass_on(&request).await
        {
            return call.answer(&response);
        }
        let key = ReplicaKey::new(request.voter_id, request.voter_directory_id);
        let (code, error_message) = match checked {
            Ok(()) => changed(&controller, VoterChangeRequest::Remove { key }).await,
            Err(refused) => refused,
        };
        let error_code = code.code();
        let answer: Answer =
            call.answer(&RemoveRaftVoterResponse { error_code, error_message, ..Default::default() });
        answer
    })))
}
