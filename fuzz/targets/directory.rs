//! A whole log directory as a stranger left it: pieces of the input are its files. `klamm verify` looks through it,
//! `dump-segment` shows it, commands without a broker read it, `--repair` mends it. The first byte says whether the
//! batches of the logs get checksums that are right.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use klamm::cli::dump_segment::dump_all;
use klamm::cli::output::Output;
use klamm::cli::verify::{Pass, repair};
use klamm::storage::Disk;
use klamm::storage::hostile::HostileDisk;
use klamm::storage::reader::{DirectoryReader, LogReader};
use klamm::types::Offset;
use libfuzzer_sys::fuzz_target;

/// The files, in the order of the pieces.
const FILES: [&str; 20] = [
    "meta.properties",
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
    "log-start-offset-checkpoint",
    "cleaner-offset-checkpoint",
    ".kafka_cleanshutdown",
    "bootstrap.checkpoint",
    "__cluster_metadata-0/00000000000000000000.log",
    "__cluster_metadata-0/quorum-state",
    "__cluster_metadata-0/00000000000000000000-0000000000.checkpoint",
    "t-0/00000000000000000000.log",
    "t-0/00000000000000000000.index",
    "t-0/00000000000000000000.timeindex",
    "t-0/00000000000000000000.txnindex",
    "t-0/00000000000000000000.snapshot",
    "t-0/00000000000000000002.snapshot",
    "t-0/leader-epoch-checkpoint",
    "t-0/partition.metadata",
    "t-0/00000000000000000002.log",
    "__consumer_offsets-0/00000000000000000000.log",
];

fuzz_target!(init: klamm_fuzz::write_directory_seeds("directory", &FILES), |data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let disk = HostileDisk::new() as Arc<dyn Disk>;
    let root = Path::new("/d");
    let pieces = klamm_fuzz::pieces(data).map(<[u8]>::to_vec).zip(FILES).map(|(mut piece, name)| {
        if name.ends_with(".log") && kind & 1 == 1 {
            klamm_fuzz::seal(&mut piece);
        }
        piece
    });
    klamm_fuzz::write_files(&*disk, root, &FILES, pieces);
    let mut pass = Pass::on(Arc::clone(&disk), 1);
    pass.add(root);
    let _ = pass.run(&Output::nowhere());
    for json in [false, true] {
        dump_all(Arc::clone(&disk), root, json, &mut Output::nowhere()).expect("nobody to refuse it");
    }
    read(&disk, root);
    if kind & 2 == 2 {
        let _ = repair(&disk, root, &mut Output::nowhere());
    }
});

/// Reads as `-d` does.
fn read(disk: &Arc<dyn Disk>, root: &Path) {
    let Ok(reader) = DirectoryReader::open(Arc::clone(disk), root) else { return };
    let _ = (reader.meta_properties(), reader.is_clean(), reader.checkpoint("replication-offset-checkpoint"));
    for folder in reader.folders().expect("a disk that does not fail") {
        if let Ok(Some(log)) = reader.log(&folder.partition) {
            read_log(&log);
        }
    }
}

fn read_log(log: &LogReader) {
    let _ = (log.topic_id(), log.leader_epochs(), log.segments(), log.size_bytes());
    let _ = (log.offset_for_timestamp(1), log.max_timestamp());
    let (Ok(start), Ok(end)) = (log.log_start_offset(), log.log_end_offset()) else { return };
    let _ = log.aborted_transactions(start, end);
    let mut cursor = log.cursor(start);
    let mut left = 1_000;
    while let Ok(Some(_)) = cursor.read(1 << 16, Offset(i64::MAX)) {
        left -= 1;
        assert!(left > 0, "reading does not end");
    }
}
