//! Directories that are damaged, newer, or another's.

use super::*;

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Starts on a directory that must be refused and stay as it is; returns the message.
fn refused(options: ControllerOptions) -> String {
    let directory = options.metadata_dir.clone();
    let before = contents(&directory);
    let error = Controller::start(options).expect_err("the directory is refused");
    assert!(contents(&directory) == before, "a byte was changed: {error}");
    error.to_string()
}

fn append_batch(file: &Path, batch: &Bytes) {
    let mut bytes = fs::read(file).unwrap();
    bytes.extend_from_slice(batch);
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_directory_of_another_quorum_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).shutdown().await.unwrap();
    let log = directory.path().join(FIRST_LOG);
    let other_directory = ControllerOptions { metadata_dir_id: Uuid([8; 16]), ..options(directory.path()) };
    assert!(refused(other_directory).contains("has the directory"));
    let other_node = ControllerOptions { node_id: 2, ..options(directory.path()) };
    assert!(refused(other_node).contains("voters [1]"));

    let voter = |voter_id| Voter { voter_id, ..Default::default() };
    let voters = VotersRecord { voters: vec![voter(1), voter(2), voter(3)], ..Default::default() };
    let mut batch = BatchBuilder::new(Compression::NONE).control().at(Offset(16), LeaderEpoch(1));
    batch.append_control(NOW_MS, ControlType::KRaftVoters, &encode_to_bytes(&voters, 0).unwrap());
    append_batch(&log, &batch.build().unwrap());
    let error = refused(options(directory.path()));
    assert!(error.contains("voters [1, 2, 3]") && error.contains(".log"), "{error}");
}

#[tokio::test]
async fn static_voters_are_read_from_quorum_state() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join(METADATA);
    fs::create_dir(&folder).unwrap();
    let state = |voters: &str| {
        format!(
            r#"{{"clusterId":"","leaderId":1,"leaderEpoch":4,"votedId":-1,"appliedOffset":0,"currentVoters":[{voters}],"data_version":0}}"#
        )
    };
    fs::write(folder.join("quorum-state"), state(r#"{"voterId":1},{"voterId":2}"#)).unwrap();
    let error = refused(options(directory.path()));
    assert!(error.contains("voters [1, 2]") && error.contains("quorum-state"), "{error}");
    fs::write(folder.join("quorum-state"), state(r#"{"voterId":1}"#)).unwrap();
    let controller = start(directory.path());
    assert_eq!(controller.image().epoch(), LeaderEpoch(5));
    controller.shutdown().await.unwrap();
    let written = fs::read_to_string(folder.join("quorum-state")).unwrap();
    assert_eq!(written, state(r#"{"voterId":1}"#).replace("\"leaderEpoch\":4", "\"leaderEpoch\":5"));
    assert_eq!(dump(&directory.path().join(FIRST_LOG))[1], "0 LeaderChange 19 bytes");
}

#[tokio::test]
async fn a_newer_format_is_refused_untouched() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).shutdown().await.unwrap();
    let log = directory.path().join(FIRST_LOG);
    let original = fs::read(&log).unwrap();
    let value = |bytes: &'static [u8]| {
        let mut batch = BatchBuilder::new(Compression::NONE).at(Offset(16), LeaderEpoch(1));
        batch.append(NOW_MS, None, Some(bytes), []);
        batch.build().unwrap()
    };
    append_batch(&log, &value(b"\x01\x0c\x00\x11metadata.version\x00\x63\x00"));
    assert!(refused(options(directory.path())).contains("metadata.version is 99"));
    fs::write(&log, &original).unwrap();
    append_batch(&log, &value(b"\x01\x70\x00"));
    assert!(refused(options(directory.path())).contains("type 112"));
    fs::write(&log, &original).unwrap();
    let state = directory.path().join(METADATA).join("quorum-state");
    fs::write(&state, r#"{"data_version":2}"#).unwrap();
    assert!(refused(options(directory.path())).contains("data_version is 2"));
}

#[tokio::test]
async fn a_torn_last_batch_is_cut_off_and_the_rest_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    create(&controller, vec![topic("kept", 1, &[])]).await;
    drop(controller);
    let log = directory.path().join(FIRST_LOG);
    let whole = fs::read(&log).unwrap();
    for cut in [1, 30, 70] {
        let mut torn = whole.clone();
        torn.extend_from_slice(&whole[..cut]);
        fs::write(&log, torn).unwrap();
        let image = start(directory.path()).image();
        assert!(image.topic("kept").is_some(), "{cut}");
    }
}

#[tokio::test]
async fn a_flipped_byte_of_the_log_is_an_end_or_an_error_and_never_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let controller = start(directory.path());
    create(&controller, vec![topic("t", 1, &[])]).await;
    drop(controller);
    let log = directory.path().join(FIRST_LOG);
    let whole = fs::read(&log).unwrap();
    for position in (0..whole.len()).step_by(13) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x5a;
        fs::write(&log, damaged).unwrap();
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join(METADATA)).unwrap();
        fs::copy(&log, copy.path().join(FIRST_LOG)).unwrap();
        if let Ok(controller) = Controller::start(options(copy.path())) {
            assert!(controller.image().broker(1).is_some(), "{position}");
        }
    }
}
