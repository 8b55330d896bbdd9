//! Metadata that Apache Kafka wrote (`testdata/kafka`): read, understood, written again to the same bytes, and
//! taken over by a controller of ours where the quorum allows it and nothing is in it that klamm cannot honour.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use klamm::config::BrokerConfig;
use klamm::controller::{Controller, ControllerError, ControllerOptions};
use klamm::metadata::{ConfigResource, Image, METADATA_VERSION, MetadataRecord};
use klamm::protocol::messages::remove_access_control_entry_record::RemoveAccessControlEntryRecord;
use klamm::protocol::messages::remove_user_scram_credential_record::RemoveUserScramCredentialRecord;
use klamm::record::{Batch, BatchBuilder, Compression, InflateLimits};
use klamm::storage::checkpoint::MetaProperties;
use klamm::storage::{LogHome, RealDisk};
use klamm::types::{LeaderEpoch, ManualClock, Offset};

const LOG: &str = "__cluster_metadata-0/00000000000000000000.log";

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kafka").join(name)
}

/// A copy of what a start looks at, as it is once the administrator has removed ACLs and SCRAM credentials.
fn copy_of(name: &str) -> tempfile::TempDir {
    let copy = exact_copy_of(name);
    remove_guards(&copy.path().join(LOG));
    copy
}

/// Appends the records that remove every ACL and SCRAM credential.
pub fn remove_guards(log: &Path) {
    let mut batch = BatchBuilder::new(Compression::NONE);
    for record in image_of(&values(log)).to_records() {
        let removal: MetadataRecord = match record {
            MetadataRecord::AccessControlEntry(entry) => {
                RemoveAccessControlEntryRecord { id: entry.id, ..Default::default() }.into()
            }
            MetadataRecord::UserScramCredential(credential) => RemoveUserScramCredentialRecord {
                name: credential.name,
                mechanism: credential.mechanism,
                ..Default::default()
            }
            .into(),
            _ => continue,
        };
        batch.append(1_700_000_000_000, None, Some(&removal.encode(30).unwrap()), []);
    }
    append_batch(log, batch);
}

/// Appends a batch where the log ends, in its last epoch.
pub fn append_batch(log: &Path, mut batch: BatchBuilder) {
    if batch.is_empty() {
        return;
    }
    let mut bytes = fs::read(log).unwrap();
    let mut rest = Bytes::from(bytes.clone());
    let mut last = None;
    while !rest.is_empty() {
        let batch = Batch::first(&rest).unwrap();
        rest = rest.slice(batch.bytes.len()..);
        last = Some(batch.header);
    }
    let last = last.unwrap();
    batch.set_position(last.next_offset(), last.leader_epoch);
    batch.build_into(&mut bytes).unwrap();
    fs::write(log, bytes).unwrap();
}

/// A copy of what a start looks at: the metadata and the files beside it.
fn exact_copy_of(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = testdata(name);
    fs::create_dir(copy.path().join("__cluster_metadata-0")).unwrap();
    for folder in ["", "__cluster_metadata-0"] {
        for entry in fs::read_dir(from.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, copy.path().join(folder).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    copy
}

fn start(directory: &Path) -> Result<Controller, ControllerError> {
    let meta = MetaProperties::parse(&fs::read(directory.join("meta.properties")).unwrap()).unwrap();
    let directory_id = meta.directory_id.unwrap();
    Controller::start(ControllerOptions {
        home: LogHome::new(RealDisk::new()),
        metadata_dir: directory.to_owned(),
        metadata_dir_id: directory_id,
        log_dir_ids: vec![directory_id],
        cluster_id: meta.cluster_id.unwrap(),
        node_id: meta.node_id.unwrap(),
        has_several_voters: false,
        clock: ManualClock::new(1_800_000_000_000),
        config: Arc::new(BrokerConfig::default()),
        endpoints: Vec::new(),
        controller_endpoint: None,
        clean_broker_epoch: None,
    })
}

/// The values of all metadata records of a segment or snapshot.
pub fn values(file: &Path) -> Vec<Bytes> {
    let mut bytes = Bytes::from(fs::read(file).unwrap());
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let batch = Batch::first(&bytes).unwrap();
        if !batch.header.is_control() {
            let records = batch.records(&InflateLimits::default()).unwrap();
            values.extend(records.map(|record| record.unwrap().value.unwrap()));
        }
        bytes = bytes.slice(batch.bytes.len()..);
    }
    values
}

pub fn image_of(values: &[Bytes]) -> Image {
    let mut builder = Image::default().builder();
    for value in values {
        builder.apply(MetadataRecord::decode(value.clone()).unwrap()).unwrap();
    }
    builder.finish(Offset::ZERO, LeaderEpoch(0))
}

/// What the image says, but for who registered: a start registers anew.
fn agreed(image: &Image) -> Vec<MetadataRecord> {
    let is_registration = |record: &MetadataRecord| {
        matches!(record, MetadataRecord::RegisterBroker(_) | MetadataRecord::RegisterController(_))
    };
    image.to_records().into_iter().filter(|record| !is_registration(record)).collect()
}

#[test]
fn every_record_that_kafka_wrote_is_written_again_to_the_same_bytes() {
    for name in ["clean", "static-voters", "killed", "cluster-node"] {
        let values = values(&testdata(name).join(LOG));
        let level = image_of(&values).feature(METADATA_VERSION);
        assert!(values.len() > 20, "{name}");
        for value in values {
            let record = MetadataRecord::decode(value.clone()).unwrap();
            assert_eq!(record.encode(level).unwrap(), value, "{name}: {record:?}");
        }
    }
}

#[test]
fn a_snapshot_has_kafkas_records_in_kafkas_order() {
    let folder = testdata("clean").join("__cluster_metadata-0");
    for name in ["00000000000000000089-0000000001.checkpoint", "00000000000000000194-0000000001.checkpoint"] {
        let kafkas = values(&folder.join(name));
        let image = image_of(&kafkas);
        let written: Vec<Bytes> =
            image.to_records().iter().map(|record| record.encode(30).unwrap()).collect();
        // Topics come in the order of a hash table in Kafka's, and by name in ours.
        let kinds = |values: &[Bytes]| {
            let name = |value: &Bytes| MetadataRecord::decode(value.clone()).unwrap().name();
            let kind = |value| name(value).replace("TopicRecord", "PartitionRecord");
            let mut kinds: Vec<String> = values.iter().map(kind).collect();
            kinds.dedup();
            kinds
        };
        assert_eq!(kinds(&written), kinds(&kafkas), "{name}");
        let missing: Vec<MetadataRecord> = kafkas
            .iter()
            .filter(|value| !written.contains(value))
            .map(|value| MetadataRecord::decode(value.clone()).unwrap())
            // Its features come in the order of a hash table too.
            .filter(|record| !matches!(record, MetadataRecord::RegisterBroker(_)))
            .collect();
        assert_eq!(image_of(&written), image, "{name}");
        assert_eq!((written.len(), missing), (kafkas.len(), vec![]), "{name}");
    }
}

#[tokio::test]
async fn directories_that_kafka_left_are_taken_over_with_all_that_was_agreed() {
    for name in ["clean", "static-voters", "killed"] {
        let copy = copy_of(name);
        let before = image_of(&values(&copy.path().join(LOG)));
        let controller = start(copy.path()).unwrap();
        let image = controller.image();
        let topics = |image: &Image| -> BTreeMap<String, usize> {
            image.topics().iter().map(|topic| (topic.name.to_string(), topic.partitions.len())).collect()
        };
        assert_eq!(topics(&image), topics(&before), "{name}");
        assert!(!topics(&image).is_empty(), "{name}");
        for topic in image.topics().iter() {
            for (number, partition) in &topic.partitions {
                assert_eq!(
                    (partition.leader, &*partition.isr),
                    (1, &[1][..]),
                    "{name} {}-{number}",
                    topic.name
                );
                let old = before.partition(topic.name.as_str(), *number).unwrap();
                assert!(partition.leader_epoch > old.leader_epoch, "{name} {}-{number}", topic.name);
            }
            let resource = ConfigResource::topic(topic.name.as_str());
            assert_eq!(image.configs(&resource), before.configs(&resource), "{name}");
        }
        assert_eq!(image.features(), before.features(), "{name}");
        controller.shutdown().await.unwrap();
        let again = start(copy.path()).unwrap();
        assert_eq!(topics(&again.image()), topics(&image), "{name}");
    }
}

#[test]
fn the_newest_snapshot_and_the_log_behind_it_say_what_the_whole_log_says() {
    let copy = copy_of("clean");
    let with_snapshots = start(copy.path()).unwrap().image();
    let copy = copy_of("clean");
    for entry in fs::read_dir(copy.path().join("__cluster_metadata-0")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".checkpoint") && !name.starts_with("00000000000000000000-") {
            fs::remove_file(path).unwrap();
        }
    }
    let without = start(copy.path()).unwrap().image();
    assert_eq!(agreed(&with_snapshots), agreed(&without));
    assert_eq!(with_snapshots.end_offset(), without.end_offset());
}

#[test]
fn a_node_of_a_cluster_is_refused_and_left_as_it_is() {
    let copy = exact_copy_of("cluster-node");
    let log = fs::read(copy.path().join(LOG)).unwrap();
    let error = start(copy.path()).expect_err("it has other voters").to_string();
    assert!(error.contains("voters [1, 2, 3]") && error.contains("quorum-state"), "{error}");
    assert!(fs::read(copy.path().join(LOG)).unwrap() == log);
}

/// A generator with a seed that is printed: the same seed makes the same run.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn records_that_were_tampered_with_are_refused_or_applied_and_never_a_panic() {
    let seed = 0x5eed_c0de;
    println!("seed {seed:#x}");
    let mut random = Xorshift(seed);
    let values = values(&testdata("clean").join(LOG));
    let image = image_of(&values);
    for value in &values {
        for _ in 0..8 {
            let mut bytes = value.to_vec();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = u8::try_from(random.below(256)).unwrap();
            }
            bytes.truncate(bytes.len() - random.below(2));
            if let Ok(record) = MetadataRecord::decode(bytes.into()) {
                let mut builder = image.builder();
                let applied = builder.apply(record);
                drop((applied, builder.finish(Offset::ZERO, LeaderEpoch(0)).to_records()));
            }
        }
    }
}
