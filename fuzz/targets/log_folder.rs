//! A partition's folder as a crash or a stranger left it: pieces of the input are its files. `klamm verify` looks
//! through it; a broker opens it, reads it to the end, cuts it and closes it, on a disk in memory. Whatever recovery
//! accepts is read again, and no batch with a wrong CRC is among it.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use klamm::record::{BatchRef, FRAME_SIZE};
use klamm::storage::hostile::HostileDisk;
use klamm::storage::reader::FolderKind;
use klamm::storage::verify::{LogCheck, Tools};
use klamm::storage::{Disk, Log, LogHome, LogOptions, OpenHints};
use klamm::types::{Offset, TopicPartition};
use libfuzzer_sys::fuzz_target;

/// The files of a folder, in the order of the pieces.
const FILES: [&str; 12] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000000.txnindex",
    "00000000000000000000.snapshot",
    "00000000000000000016.snapshot",
    "leader-epoch-checkpoint",
    "partition.metadata",
    "00000000000000000016.log",
    "00000000000000000016.index",
    "00000000000000000000.log.swap",
    "00000000000000000016.log.cleaned",
];

fuzz_target!(init: klamm_fuzz::write_folder_seeds("log_folder", &FILES), |data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let disk = HostileDisk::new() as Arc<dyn Disk>;
    let folder = Path::new("/d/t-0");
    klamm_fuzz::write_folder(&*disk, folder, &FILES, data);
    let Some(partition) = TopicPartition::from_dir_name("t-0") else { return };
    verify(&disk, folder, &partition);
    let hints = OpenHints { clean: kind & 1 == 1, ..OpenHints::default() };
    let options = LogOptions { segment_index_bytes: 1_024, ..LogOptions::default() };
    let home = LogHome::new(Arc::clone(&disk));
    let Ok((mut log, _)) = Log::open(&home, folder, partition.clone(), options, hints, 0) else { return };
    read(&log, !hints.clean);
    let _ = log.aborted_transactions(Offset::ZERO, log.log_end_offset());
    let _ = (log.offset_for_timestamp(0), log.max_timestamp());
    let _ = log.truncate_to(Offset(i64::from(kind >> 1)), 0);
    read(&log, !hints.clean);
    let _ = log.close_clean();
    drop(log);
    verify(&disk, folder, &partition);
});

fn verify(disk: &Arc<dyn Disk>, folder: &Path, partition: &TopicPartition) {
    let plan =
        LogCheck::plan(Arc::clone(disk), folder, Some(partition.clone()), FolderKind::Current, None, None);
    let check = plan.expect("a disk that does not fail");
    for unit in 0..check.unit_count() {
        check.read(unit, &mut Tools::default(), &|_| {}).expect("a disk that does not fail");
    }
    let _ = check.finish();
}

/// Reads to the end; of what was recovered, every CRC is right.
fn read(log: &Log, is_recovered: bool) {
    let mut next = log.log_start_offset();
    while next < log.log_end_offset() {
        let Ok(outcome) = log.read(next, log.log_end_offset(), 1 << 16, true) else { return };
        let Some(bytes) = outcome.into_slice().and_then(|slice| slice.region.read().ok()) else { return };
        let mut rest = &bytes[..];
        let before = next;
        while rest.len() > FRAME_SIZE {
            let Ok(batch) = BatchRef::first(rest) else { break };
            assert!(!is_recovered || batch.check_crc().is_ok(), "a wrong batch at {next}");
            rest = &rest[batch.bytes.len()..];
            next = next.max(batch.header.next_offset());
        }
        if next <= before {
            return;
        }
    }
}
