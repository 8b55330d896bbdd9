//! Several log directories: locks, checkpoints, clean marks, strays, deletion, and what a failed disk does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use klamm::storage::{
    AppendError, AppendOrigin, Checkpoint, DirectoryError, Disk, Log, LogDirectories, LogOptions, LogPoint,
    RealDisk, StorageError,
};
use klamm::types::{Offset, Uuid};

use super::hostile::HostileDisk;
use super::world::{EPOCH, NOW, append, append_times, batch, names, partition, sized, values};

struct Node {
    root: tempfile::TempDir,
    disk: Arc<dyn Disk>,
}

impl Node {
    fn on(disk: Arc<dyn Disk>) -> Self {
        Self { root: tempfile::tempdir().unwrap(), disk }
    }

    fn new() -> Self {
        Self::on(RealDisk::new())
    }

    fn paths(&self, count: usize) -> Vec<PathBuf> {
        (0..count).map(|index| self.root.path().join(format!("d{index}"))).collect()
    }

    fn start(&self, count: usize) -> LogDirectories {
        LogDirectories::open(&self.disk, &self.paths(count)).unwrap()
    }
}

fn open_all(directories: &LogDirectories) -> Vec<Log> {
    let planned = directories.plan(NOW).unwrap();
    planned.into_iter().map(|planned| planned.open(LogOptions::default(), NOW).unwrap().0).collect()
}

fn stop(directories: &LogDirectories, mut logs: Vec<Log>) -> usize {
    logs.iter_mut().for_each(|log| log.close_clean().unwrap());
    let points: Vec<LogPoint> = logs.iter().map(Log::point).collect();
    directories.finish_clean(&points, 17)
}

fn create(directories: &LogDirectories, name: &str) -> Log {
    directories.create_log(partition(name), Some(Uuid::ONE), LogOptions::default(), NOW).unwrap()
}

#[test]
fn logs_come_back_after_a_clean_stop_with_their_offsets() {
    let node = Node::new();
    let directories = node.start(2);
    directories.claim("cluster", 1, || Uuid::from_random_bytes(rand_bytes())).unwrap();
    let mut logs: Vec<Log> = (0..6).map(|index| create(&directories, &format!("t-{index}"))).collect();
    assert_eq!(
        directories.all().iter().map(|directory| directory.partition_count()).collect::<Vec<_>>(),
        [3, 3]
    );
    for (count, log) in logs.iter_mut().enumerate() {
        append_times(log, count, &batch(&["a", "b"]));
    }
    logs[5].delete_records_before(Offset(3)).unwrap();
    assert_eq!(stop(&directories, logs), 2);
    drop(directories);

    let directories = node.start(2);
    assert_eq!(directories.clean_broker_epoch(), Some(17));
    directories.claim("cluster", 1, || panic!("both have ids")).unwrap();
    let logs = open_all(&directories);
    assert_eq!(logs.iter().map(|log| log.log_end_offset().0).collect::<Vec<_>>(), [0, 2, 4, 6, 8, 10]);
    assert_eq!(logs.iter().map(|log| log.high_watermark().0).collect::<Vec<_>>(), [0, 2, 4, 6, 8, 10]);
    assert_eq!(logs[5].log_start_offset(), Offset(3));
    assert!(logs.iter().all(|log| log.topic_id() == Some(Uuid::ONE)));
    drop((logs, directories));
    // Nobody stopped cleanly this time.
    assert_eq!(node.start(2).clean_broker_epoch(), None);
}

fn rand_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_directory_that_is_in_use_is_refused() {
    let node = Node::new();
    let _running = node.start(1);
    let refused = LogDirectories::open(&node.disk, &node.paths(1)).unwrap_err();
    assert!(matches!(refused, DirectoryError::Lock(_)), "{refused}");
}

#[test]
fn a_directory_of_another_cluster_node_or_copy_is_refused() {
    let node = Node::new();
    node.start(2).claim("cluster", 1, || Uuid::from_random_bytes(rand_bytes())).unwrap();
    for (cluster, id, what) in [("other", 1, "cluster.id"), ("cluster", 2, "node.id")] {
        let error = node.start(2).claim(cluster, id, || Uuid::ONE).unwrap_err();
        assert!(matches!(error, DirectoryError::Foreign { what: found, .. } if found == what), "{error}");
    }
    let paths = node.paths(2);
    std::fs::copy(paths[0].join("meta.properties"), paths[1].join("meta.properties")).unwrap();
    let error = node.start(2).claim("cluster", 1, || Uuid::ONE).unwrap_err();
    assert!(matches!(error, DirectoryError::Foreign { what: "directory.id", .. }), "{error}");
    std::fs::write(paths[0].join("meta.properties"), "version=7\n").unwrap();
    let error = LogDirectories::open(&node.disk, &paths).unwrap_err();
    assert!(matches!(error, DirectoryError::Properties { .. }), "{error}");
}

#[test]
fn kafka_15375_a_start_that_failed_leaves_no_clean_mark() {
    let node = Node::new();
    let directories = node.start(1);
    let logs = vec![create(&directories, "a-0"), create(&directories, "b-0")];
    assert_eq!(stop(&directories, logs), 1);
    drop(directories);
    // The next start opens one log, and fails at the other.
    let directories = node.start(1);
    directories.claim("cluster", 1, || Uuid::ONE).unwrap();
    let mut planned = directories.plan(NOW).unwrap();
    let (log, _) = planned.pop().unwrap().open(LogOptions::default(), NOW).unwrap();
    drop(planned);
    assert_eq!(stop(&directories, vec![log]), 0);
    drop(directories);
    assert_eq!(node.start(1).clean_broker_epoch(), None);
}

#[test]
fn kafka_10778_after_a_failed_append_nothing_is_appended_in_that_directory() {
    let disk = HostileDisk::new();
    let faults = Arc::clone(&disk.faults);
    let node = Node::on(disk);
    let directories = node.start(2);
    let mut logs: Vec<Log> = (0..4).map(|index| create(&directories, &format!("t-{index}"))).collect();
    logs.iter_mut().for_each(|log| append_times(log, 1, &batch(&["kept"])));
    faults.writes.store(true, Ordering::Relaxed);
    let attempt = |log: &mut Log| log.append_as_leader(&batch(&["lost"]), EPOCH, AppendOrigin::Client, NOW);
    assert!(matches!(attempt(&mut logs[0]), Err(AppendError::Storage(StorageError::Io { .. }))));
    // The disk has room again; what the failed write has left is not known all the same.
    faults.writes.store(false, Ordering::Relaxed);
    let failed = logs[0].directory();
    for log in &mut logs {
        let outcome = attempt(log);
        if log.directory() == failed {
            assert!(matches!(outcome, Err(AppendError::Storage(StorageError::Offline(_)))), "{outcome:?}");
            assert!(log.close_clean().is_err());
        } else {
            assert_eq!(outcome.unwrap().base_offset, Offset(1));
        }
    }
    assert_eq!(directories.for_new_log().unwrap().path(), logs[1].directory());
    let points: Vec<LogPoint> = logs.iter().map(Log::point).collect();
    assert_eq!(directories.finish_clean(&points, 1), 1);
}

#[test]
fn a_failed_sync_takes_the_directory_offline_and_is_never_tried_again() {
    let disk = HostileDisk::new();
    let faults = Arc::clone(&disk.faults);
    let node = Node::on(disk);
    let directories = node.start(1);
    let mut log = create(&directories, "t-0");
    append(&mut log, &batch(&["a"]));
    faults.syncs.store(true, Ordering::Relaxed);
    let ticket = log.flush_ticket().unwrap().unwrap();
    ticket.sync().unwrap_err();
    assert_eq!(log.flushed_offset(), Offset(0));
    faults.syncs.store(false, Ordering::Relaxed);
    let tried = faults.syncs_tried.load(Ordering::Relaxed);
    assert!(matches!(ticket.sync(), Err(StorageError::Offline(_))));
    assert!(log.flush().is_err());
    assert_eq!(faults.syncs_tried.load(Ordering::Relaxed), tried);
    assert!(log.append_as_leader(&batch(&["b"]), EPOCH, AppendOrigin::Client, NOW).is_err());
    assert!(directories.all()[0].health().failure().is_some());
}

#[test]
fn a_deleted_log_leaves_after_its_delay_or_at_the_next_start() {
    let node = Node::new();
    let directories = node.start(1);
    let mut logs = vec![create(&directories, "a-0"), create(&directories, "b-0")];
    append(&mut logs[0], &batch(&["still being sent"]));
    let slice = logs[0].read(Offset(0), Offset(1), 100, true).unwrap().into_slice().unwrap();
    for log in &mut logs {
        directories.delete_log(log, Uuid([7; 16]), NOW).unwrap();
    }
    let folder = node.paths(1).remove(0);
    let count = || names(&folder).iter().filter(|name| name.ends_with("-delete")).count();
    assert_eq!((directories.tick(NOW + 59_999), count()), (Some(NOW + 60_000), 2));
    // The name is free again.
    let again = create(&directories, "a-0");
    assert_eq!((directories.tick(NOW + 60_000), count()), (None, 0));
    assert_eq!(slice.region.read().unwrap().len(), slice.region.len());
    let mut again = again;
    directories.delete_log(&mut again, Uuid([7; 16]), NOW).unwrap();
    drop(directories);
    let directories = node.start(1);
    assert!(directories.plan(NOW).unwrap().is_empty());
    directories.tick(NOW);
    assert_eq!(count(), 0);
}

#[test]
fn kafka_14616_a_log_of_another_topic_id_is_put_away_before_the_new_one_is_made() {
    let node = Node::new();
    let directories = node.start(1);
    let mut log = create(&directories, "t-0");
    append(&mut log, &batch(&["of the deleted topic"]));
    drop((log, directories));
    let directories = node.start(1);
    let mut planned = directories.plan(NOW).unwrap();
    let found = planned.pop().unwrap();
    assert_eq!(found.topic_id().unwrap(), Some(Uuid::ONE));
    let stray = found.put_away_as_stray(Uuid([9; 16])).unwrap();
    assert!(stray.to_str().unwrap().ends_with("-stray"));
    let fresh =
        directories.create_log(partition("t-0"), Some(Uuid([3; 16])), LogOptions::default(), NOW).unwrap();
    assert!(values(&fresh).is_empty());
    assert!(names(&stray).contains(&"00000000000000000000.log".to_owned()));
    drop((fresh, directories));
    assert_eq!(node.start(1).plan(NOW).unwrap().len(), 1);
}

#[test]
fn a_partition_in_two_directories_is_an_error() {
    let node = Node::new();
    let directories = node.start(2);
    drop(create(&directories, "t-0"));
    drop(directories);
    std::fs::create_dir(node.paths(2)[1].join("t-0")).unwrap();
    let error = node.start(2).plan(NOW).unwrap_err();
    assert!(error.to_string().contains("t-0"), "{error}");
}

#[test]
fn a_torn_checkpoint_costs_a_recovery_and_no_record() {
    let node = Node::new();
    let directories = node.start(1);
    let mut log = create(&directories, "t-0");
    append_times(&mut log, 50, &sized(1_000));
    log.flush().unwrap();
    directories.write_checkpoint(Checkpoint::RecoveryPoint, &[log.point()]);
    drop((log, directories));
    std::fs::write(node.paths(1)[0].join("recovery-point-offset-checkpoint"), "0\n5\nt-0").unwrap();
    let logs = open_all(&node.start(1));
    assert_eq!(values(&logs[0]).len(), 50);
}
