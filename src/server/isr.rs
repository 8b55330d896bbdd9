//! Asks the controller for the changes of ISRs that leaders propose (AlterPartition, KIP-497): one request at a time,
//! for all partitions that wait; and looks twice in every `replica.lag.time.max.ms` for followers that lag.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, info};

use super::node::Node;
use crate::controller::Controller;
use crate::protocol::ErrorCode;
use crate::protocol::messages::alter_partition_request::{
    AlterPartitionRequest, BrokerState, PartitionData, TopicData,
};
use crate::protocol::messages::alter_partition_response::AlterPartitionResponse;
use crate::replication::replicas::AlterPartitions;
use crate::replication::{After, Granted, Partition, Proposal};
use crate::types::{LeaderEpoch, Uuid};

/// How long nothing is sent after a request that failed, as in Kafka.
const RETRY: Duration = Duration::from_millis(50);
/// How often followers that lag are looked for at the least.
const LONGEST_LOOK_MS: i64 = 15_000;

/// The partitions that have something to ask.
pub struct IsrQueue {
    queue: Mutex<Vec<Arc<Partition>>>,
    filled: Notify,
    controller: Box<dyn AlterPartitions>,
}

impl AlterPartitions for Controller {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> Pin<Box<dyn Future<Output = AlterPartitionResponse> + Send + '_>> {
        Box::pin(Self::alter_partition(self, request))
    }
}

impl IsrQueue {
    /// What is proposed goes to `controller`.
    #[must_use]
    pub fn new(controller: Box<dyn AlterPartitions>) -> Self {
        Self { queue: Mutex::default(), filled: Notify::new(), controller }
    }

    /// `partition` has a proposal.
    pub fn enqueue(&self, partition: &Arc<Partition>) {
        self.queue.lock().push(Arc::clone(partition));
        self.filled.notify_one();
    }
}

/// Runs until the broker begins to stop.
pub async fn run(node: Arc<Node>) {
    let mut next_look = node.clock.elapsed();
    loop {
        tokio::select! {
            () = node.isr.filled.notified() => {}
            () = node.clock.wait_until(next_look) => {}
            () = node.stopping() => return,
        }
        if node.clock.elapsed() >= next_look {
            look_for_laggards(&node);
            let half_ms = (node.config().replication.lag_time_max_ms / 2).clamp(1, LONGEST_LOOK_MS);
            next_look = node.clock.elapsed() + Duration::from_millis(half_ms.unsigned_abs());
        }
        let asked = std::mem::take(&mut *node.isr.queue.lock());
        if !asked.is_empty() && !ask(&node, &asked).await {
            tokio::select! {
                () = node.clock.wait(RETRY) => {}
                () = node.stopping() => return,
            }
            node.isr.queue.lock().extend(asked);
            node.isr.filled.notify_one();
        }
    }
}

/// A broker that is alone has no followers.
fn look_for_laggards(node: &Node) {
    if node.image().brokers().len() > 1 {
        for partition in node.partitions.all() {
            if partition.shrink_isr() {
                node.isr.enqueue(&partition);
            }
        }
    }
}

/// Sends what `partitions` propose; `false` where some of it has to be sent again.
async fn ask(node: &Node, partitions: &[Arc<Partition>]) -> bool {
    let mut proposals: HashMap<(Uuid, i32), (&Arc<Partition>, Proposal)> = HashMap::new();
    for partition in partitions {
        if let Some(proposal) = partition.proposal() {
            proposals.insert((partition.topic_id(), partition.id().partition), (partition, proposal));
        }
    }
    if proposals.is_empty() {
        return true;
    }
    let response = node.isr.controller.alter_partition(request_of(node, &proposals)).await;
    if response.error_code != 0 {
        debug!(
            "the controller takes no change of ISRs: {}",
            ErrorCode::from_wire(response.error_code).name()
        );
        return false;
    }
    settle(&proposals, &response)
}

fn request_of(
    node: &Node,
    proposals: &HashMap<(Uuid, i32), (&Arc<Partition>, Proposal)>,
) -> AlterPartitionRequest {
    let broker_epoch = node.image().broker(node.id.0).map_or(-1, |broker| broker.epoch);
    let mut topics: HashMap<Uuid, Vec<PartitionData>> = HashMap::new();
    for ((topic_id, partition_index), (_, proposal)) in proposals {
        let member = |(broker_id, broker_epoch): &(i32, i64)| BrokerState {
            broker_id: *broker_id,
            broker_epoch: *broker_epoch,
            ..BrokerState::default()
        };
        topics.entry(*topic_id).or_default().push(PartitionData {
            partition_index: *partition_index,
            leader_epoch: proposal.leader_epoch.0,
            new_isr_with_epochs: proposal.isr.iter().map(member).collect(),
            partition_epoch: proposal.partition_epoch,
            ..PartitionData::default()
        });
    }
    let topics = topics.into_iter().map(|(topic_id, partitions)| TopicData {
        topic_id,
        partitions,
        ..TopicData::default()
    });
    AlterPartitionRequest {
        broker_id: node.id.0,
        broker_epoch,
        topics: topics.collect(),
        ..AlterPartitionRequest::default()
    }
}

fn settle(
    proposals: &HashMap<(Uuid, i32), (&Arc<Partition>, Proposal)>,
    response: &AlterPartitionResponse,
) -> bool {
    let mut is_settled = true;
    for topic in &response.topics {
        for answer in &topic.partitions {
            let Some((partition, proposal)) = proposals.get(&(topic.topic_id, answer.partition_index)) else {
                continue;
            };
            let outcome = match ErrorCode::from_wire(answer.error_code) {
                ErrorCode::None => Ok(Granted {
                    leader_epoch: LeaderEpoch(answer.leader_epoch),
                    partition_epoch: answer.partition_epoch,
                    isr: answer.isr.clone(),
                }),
                code => Err(code),
            };
            match &outcome {
                Ok(granted) => info!(partition = %partition.id(), isr = ?granted.isr, "in sync now"),
                Err(code) => info!(partition = %partition.id(), "the ISR stays as it is: {}", code.name()),
            }
            is_settled &= partition.answered(proposal, outcome) != After::Again;
        }
    }
    is_settled
}
