//! Which log directory a partition's replica is in, decided: where this broker has moved it, or found it.

use crate::metadata::MetadataRecord;
use crate::protocol::ErrorCode;
use crate::protocol::messages::partition_change_record::PartitionChangeRecord;
use crate::types::Uuid;

use super::decision::{Answer, Context, Decision, Refusal};

/// A partition of a topic, and the directory that holds this broker's replica of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The topic.
    pub topic_id: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// The directory's id.
    pub directory: Uuid,
}

/// Whether all of them are in the metadata log now.
pub(super) type Assigned = Result<(), ErrorCode>;

/// Takes over where replicas are. Partitions that are gone, or are there already, are passed over.
pub(super) fn assign(context: &mut Context<'_>, assignments: &[Assignment]) -> Decision<Assigned> {
    let mut records = Vec::new();
    for assignment in assignments {
        match assign_one(context, assignment) {
            Ok(record) => records.extend(record),
            Err(refusal) => return Decision { records, answer: Err(refusal.code) },
        }
    }
    Decision { records, answer: Ok(()) }
}

fn assign_one(context: &mut Context<'_>, assignment: &Assignment) -> Result<Option<MetadataRecord>, Refusal> {
    let Assignment { topic_id, partition, directory } = *assignment;
    let node_id = context.node_id;
    let topic = context.image().topic_by_id(topic_id);
    let Some(registration) = topic.and_then(|topic| topic.partitions.get(&partition)) else {
        return Ok(None);
    };
    let Some(at) = registration.replicas.iter().position(|replica| *replica == node_id) else {
        return Ok(None);
    };
    if registration.directory_of(node_id) == directory {
        return Ok(None);
    }
    let mut directories = registration.directories.clone();
    directories.resize(registration.replicas.len(), Uuid::ZERO);
    directories[at] = directory;
    let record = MetadataRecord::from(PartitionChangeRecord {
        partition_id: partition,
        topic_id,
        directories: Some(directories),
        ..PartitionChangeRecord::default()
    });
    context.builder.apply(record.clone())?;
    Ok(Some(record))
}

impl Answer for Assigned {
    fn refuse(&mut self, refusal: &Refusal) {
        *self = Err(refusal.code);
    }
}
