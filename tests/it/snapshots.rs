//! Snapshots of the metadata: written when they are due, whole or not at all, and read back with what the log
//! has behind them. What they stand for is deleted, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use klamm::config::{BrokerConfig, Layers};
use klamm::controller::{Controller, ControllerError, ControllerOptions};
use klamm::metadata::snapshot::{SnapshotId, SnapshotName};
use klamm::metadata::{Image, MetadataRecord};
use klamm::protocol::ErrorCode;
use klamm::protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use klamm::storage::{LogHome, RealDisk};
use klamm::types::{ManualClock, Uuid};

const NOW_MS: i64 = 1_800_000_000_000;

struct Node {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
    settings: Vec<(String, String)>,
}

impl Node {
    fn new(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Self { directory: tempfile::tempdir().unwrap(), clock: ManualClock::new(NOW_MS), settings }
    }

    fn start(&self) -> Controller {
        self.try_start().unwrap()
    }

    fn try_start(&self) -> Result<Controller, ControllerError> {
        let layers = Layers { flags: self.settings.clone(), ..Layers::default() };
        Controller::start(ControllerOptions {
            home: LogHome::new(RealDisk::new()),
            metadata_dir: self.directory.path().to_owned(),
            metadata_dir_id: Uuid([7; 16]),
            log_dir_ids: vec![Uuid([7; 16])],
            cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
            node_id: 1,
            has_several_voters: false,
            clock: Arc::<ManualClock>::clone(&self.clock),
            config: Arc::new(BrokerConfig::load(layers).unwrap().0),
            endpoints: Vec::new(),
            controller_endpoint: None,
            clean_broker_epoch: None,
        })
    }

    fn folder(&self) -> PathBuf {
        self.directory.path().join("__cluster_metadata-0")
    }

    fn names(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.folder()).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn snapshots(&self) -> Vec<SnapshotId> {
        let whole = |name: &String| match SnapshotName::parse(name)? {
            SnapshotName::Whole(id) => Some(id),
            SnapshotName::Part(_) | SnapshotName::Deleted(_) => None,
        };
        self.names().iter().filter_map(whole).collect()
    }
}

async fn create(controller: &Controller, name: &str) {
    let setting = CreatableTopicConfig {
        name: "retention.ms".into(),
        value: Some("1000".into()),
        ..Default::default()
    };
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: 3,
        replication_factor: 1,
        configs: vec![setting],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let response = controller.create_topics(request).await;
    assert_eq!(ErrorCode::from_wire(response.topics[0].error_code), ErrorCode::None);
}

/// What was agreed on, but for registrations: a start registers anew.
fn agreed(image: &Image) -> Vec<MetadataRecord> {
    let is_registration = |record: &MetadataRecord| {
        matches!(record, MetadataRecord::RegisterBroker(_) | MetadataRecord::RegisterController(_))
    };
    let records = image.to_records().into_iter().filter(|record| !is_registration(record));
    let forget_epoch = |record| match record {
        MetadataRecord::Partition(mut partition) => {
            (partition.leader_epoch, partition.partition_epoch) = (0, 0);
            MetadataRecord::Partition(partition)
        }
        other => other,
    };
    records.map(forget_epoch).collect()
}

/// Creates topics until a snapshot newer than `known` is there.
async fn create_until_snapshot(controller: &Controller, prefix: &str) -> SnapshotId {
    let mut snapshots = controller.snapshots();
    let known = *snapshots.borrow_and_update();
    for number in 0.. {
        create(controller, &format!("{prefix}{number}")).await;
        let is_new = *snapshots.borrow() != known;
        if is_new {
            break;
        }
    }
    let newest = *snapshots.borrow();
    newest.unwrap()
}

const SMALL: (&str, &str) = ("metadata.log.max.record.bytes.between.snapshots", "4000");

#[tokio::test]
async fn a_start_from_a_snapshot_and_the_log_behind_it_knows_what_the_whole_log_knows() {
    let node = Node::new(&[SMALL]);
    let controller = node.start();
    let id = create_until_snapshot(&controller, "before").await;
    create(&controller, "after").await;
    let image = controller.image();
    assert!(id.end_offset < image.end_offset());
    controller.shutdown().await.unwrap();
    assert!(node.names().contains(&id.file_name()));
    let again = node.start();
    assert_eq!(agreed(&again.image()), agreed(&image));
    drop(again);
    for snapshot in node.snapshots() {
        fs::remove_file(node.folder().join(snapshot.file_name())).unwrap();
    }
    assert_eq!(agreed(&node.start().image()), agreed(&image), "the log alone says the same");
}

#[tokio::test]
async fn a_snapshot_is_due_by_time_as_well_and_never_without_news() {
    let node = Node::new(&[("metadata.log.max.snapshot.interval.ms", "3600000")]);
    let controller = node.start();
    let mut snapshots = controller.snapshots();
    create(&controller, "a").await;
    assert_eq!(node.snapshots().len(), 1, "the one of the format");
    node.clock.advance(std::time::Duration::from_secs(3600));
    controller.maintain();
    snapshots.changed().await.unwrap();
    assert_eq!(node.snapshots().len(), 2);
    node.clock.advance(std::time::Duration::from_secs(7200));
    controller.maintain();
    // What is answered came after: nothing was begun in between.
    create(&controller, "b").await;
    snapshots.changed().await.unwrap();
    let newest = snapshots.borrow().unwrap();
    assert_eq!(newest.end_offset, controller.image().end_offset(), "it was begun with the news");
    assert_eq!(node.snapshots().len(), 3);
}

#[tokio::test]
async fn what_snapshots_stand_for_is_deleted_and_the_rest_survives_a_restart() {
    let node = Node::new(&[
        SMALL,
        ("metadata.log.segment.bytes", "8388608"),
        // Begins a segment with every append: the clock moves on in between.
        ("metadata.log.segment.ms", "1"),
        ("metadata.max.retention.bytes", "1"),
    ]);
    let controller = node.start();
    let mut newest = None;
    for round in 0..4 {
        node.clock.advance(std::time::Duration::from_millis(5));
        newest = Some(create_until_snapshot(&controller, &format!("r{round}-")).await);
    }
    let image = controller.image();
    controller.shutdown().await.unwrap();
    let kept = node.snapshots();
    // One more may have been begun before the stop.
    let first = newest.unwrap().end_offset;
    assert!(kept.len() <= 2 && kept.iter().all(|id| id.end_offset >= first), "{:?}", node.names());
    assert!(!node.names().contains("00000000000000000000.log"), "{:?}", node.names());
    let is_on_its_way_out =
        |name: &String| matches!(SnapshotName::parse(name), Some(SnapshotName::Deleted(_)));
    assert!(node.names().iter().any(is_on_its_way_out), "readers in flight come to their end");
    let again = node.start();
    assert_eq!(agreed(&again.image()), agreed(&image));
    assert!(!node.names().iter().any(is_on_its_way_out));
    again.shutdown().await.unwrap();
    // The log begins behind what the snapshot holds: without it nobody may make the cluster up.
    for id in kept {
        fs::remove_file(node.folder().join(id.file_name())).unwrap();
    }
    let said = node.try_start().err().unwrap().to_string();
    assert!(said.contains("no snapshot holds what was before it"), "{said}");
}

#[tokio::test]
async fn what_a_crash_leaves_of_a_snapshot_is_no_snapshot() {
    let node = Node::new(&[SMALL]);
    let controller = node.start();
    let id = create_until_snapshot(&controller, "t").await;
    let image = controller.image();
    controller.shutdown().await.unwrap();
    let whole = fs::read(node.folder().join(id.file_name())).unwrap();
    let later = SnapshotId { end_offset: image.end_offset() + 1000, ..id };
    fs::write(node.folder().join(later.part_name(1)), &whole[..whole.len() / 2]).unwrap();
    fs::write(node.folder().join(later.deleted_name()), b"").unwrap();
    let again = node.start();
    assert_eq!(agreed(&again.image()), agreed(&image));
    drop(again);
    let names = node.names();
    assert!(!names.contains(&later.part_name(1)) && !names.contains(&later.deleted_name()), "{names:?}");
}
