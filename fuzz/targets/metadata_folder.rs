//! `__cluster_metadata-0` and what lies beside it, as a broker looks through them before it takes a directory: pieces
//! of the input are its files.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use klamm::controller::{Claimant, Controller};
use klamm::storage::Disk;
use klamm::storage::hostile::HostileDisk;
use klamm::types::Uuid;
use libfuzzer_sys::fuzz_target;

/// The files of the folder, in the order of the pieces; the last lies above it.
const FILES: [&str; 5] = [
    "00000000000000000000.log",
    "quorum-state",
    "00000000000000000000-0000000000.checkpoint",
    "00000000000000000010-0000000001.checkpoint",
    "../bootstrap.checkpoint",
];

fuzz_target!(init: klamm_fuzz::write_folder_seeds("metadata_folder", &FILES), |data: &[u8]| {
    let disk = HostileDisk::new() as Arc<dyn Disk>;
    let (files, above) = FILES.split_at(4);
    klamm_fuzz::write_folder(&*disk, Path::new("/d/__cluster_metadata-0"), files, data.get(1..).unwrap_or(&[]));
    let behind = klamm_fuzz::pieces(data.get(1..).unwrap_or(&[])).nth(4).unwrap_or_default();
    let piece = [&(behind.len() as u16).to_be_bytes()[..], behind].concat();
    klamm_fuzz::write_folder(&*disk, Path::new("/d"), &[above[0].trim_start_matches("../")], &piece);
    let claimant = Claimant {
        disk,
        metadata_dir: "/d".into(),
        metadata_dir_id: Uuid([7; 16]),
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        node_id: 1,
        has_several_voters: false,
    };
    if let Ok(found) = Controller::examine(&claimant) {
        let _ = (found.image().to_records(), found.is_adopted(1));
    }
});
