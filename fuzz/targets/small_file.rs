//! The small files of a log directory, and their names: a byte that picks the kind, then the file. What is read
//! and written again reads as the same.
#![no_main]

use klamm::config::properties;
use klamm::metadata::snapshot::{SnapshotName, last_contained_timestamp};
use klamm::storage::checkpoint::{self, MetaProperties};
use klamm::storage::place::{file_name, parse_file_name};
use klamm::storage::{producer_snapshot, transaction_index};
use klamm::types::{Offset, TopicPartition};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: klamm_fuzz::write_file_seeds("small_file"), |data: &[u8]| {
    let Some((kind, file)) = data.split_first() else { return };
    match klamm_fuzz::SMALL_FILES.get(usize::from(*kind)).copied() {
        Some("-offset-checkpoint") => {
            if let Ok(offsets) = checkpoint::parse_offsets(file) {
                let written = checkpoint::render_offsets(offsets.iter().map(|(key, value)| (key, *value)));
                assert_eq!(checkpoint::parse_offsets(&written).as_ref(), Ok(&offsets));
            }
        }
        Some("leader-epoch-checkpoint") => {
            if let Ok(epochs) = checkpoint::parse_epochs(file) {
                let written = checkpoint::render_epochs(epochs.iter().copied());
                assert_eq!(checkpoint::parse_epochs(&written), Ok(epochs));
            }
        }
        Some("meta.properties") => {
            if let Ok(meta) = MetaProperties::parse(file) {
                let _ = MetaProperties::parse(&meta.render());
            }
            if let Ok(text) = str::from_utf8(file) {
                let _ = properties::parse(text);
            }
        }
        Some("partition.metadata") => {
            if let Ok(id) = checkpoint::parse_partition_metadata(file) {
                let written = checkpoint::render_partition_metadata(id);
                assert_eq!(checkpoint::parse_partition_metadata(&written), Ok(id));
            }
        }
        Some(".kafka_cleanshutdown") => {
            let epoch = checkpoint::parse_clean_shutdown(file);
            assert_eq!(checkpoint::parse_clean_shutdown(&checkpoint::render_clean_shutdown(epoch)), epoch);
        }
        Some(".snapshot") => {
            if let Ok(entries) = producer_snapshot::parse(file) {
                let _ = producer_snapshot::render(entries.into_iter());
            }
        }
        Some(".txnindex") => {
            let _ = transaction_index::parse(file, Offset::ZERO);
        }
        Some(".checkpoint") => {
            let _ = last_contained_timestamp(&file.to_vec().into());
        }
        _ => names(file),
    }
});

fn names(bytes: &[u8]) {
    let Ok(name) = str::from_utf8(bytes) else { return };
    if let Some((offset, suffix)) = parse_file_name(name) {
        assert_eq!(file_name(offset, suffix), name);
    }
    if let Some(SnapshotName::Whole(id)) = SnapshotName::parse(name) {
        assert_eq!(id.file_name(), name);
    }
    if let Some(partition) = TopicPartition::from_dir_name(name) {
        assert_eq!(TopicPartition::from_dir_name(&partition.to_string()), Some(partition));
    }
}
