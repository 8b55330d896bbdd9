//! The metadata log and its snapshots under power cuts: while they are written, named and trimmed, what was agreed on
//! is there after any cut.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use klamm::config::{BrokerConfig, Layers};
use klamm::controller::{Controller, ControllerError, ControllerOptions};
use klamm::protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use klamm::storage::hostile::{HostileDisk, Moment, Survival};
use klamm::storage::{Disk as _, LogHome};
use klamm::types::{ManualClock, Uuid};
use tokio::runtime::Runtime;

use super::{Count, panic_text, seeds, survivals};

const NOW_MS: i64 = 1_800_000_000_000;

fn start(disk: &Arc<HostileDisk>, clock: &Arc<ManualClock>) -> Result<Controller, ControllerError> {
    // A snapshot after every few topics, a segment for every append, and nothing is kept that need not be.
    let settings = [
        ("metadata.log.max.record.bytes.between.snapshots", "600"),
        ("metadata.log.segment.ms", "1"),
        ("metadata.max.retention.bytes", "1"),
    ];
    let flags = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    Controller::start(ControllerOptions {
        home: LogHome::new(Arc::<HostileDisk>::clone(disk)),
        metadata_dir: "/data".into(),
        metadata_dir_id: Uuid([7; 16]),
        log_dir_ids: vec![Uuid([7; 16])],
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        node_id: 1,
        clock: Arc::<ManualClock>::clone(clock),
        config: Arc::new(BrokerConfig::load(Layers { flags, ..Layers::default() }).unwrap().0),
        endpoints: Vec::new(),
        controller_endpoint: None,
        clean_broker_epoch: None,
        has_several_voters: false,
    })
}

async fn create(controller: &Controller, name: &str) -> i16 {
    let topic =
        CreatableTopic { name: name.into(), num_partitions: 3, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    controller.create_topics(request).await.topics[0].error_code
}

/// Topics, snapshots and restarts; gives the topics, each with the change after which it was acknowledged.
async fn work(disk: &Arc<HostileDisk>) -> Vec<(u64, String)> {
    let clock = ManualClock::new(NOW_MS);
    let mut told = Vec::new();
    for life in 0..3 {
        let controller = start(disk, &clock).unwrap();
        let mut snapshots = controller.snapshots();
        for round in 0..3 {
            for number in 0..2 {
                clock.advance(Duration::from_millis(5));
                let name = format!("t-{life}-{round}-{number}");
                assert_eq!(create(&controller, &name).await, 0);
                told.push((disk.changes(), name));
            }
            snapshots.changed().await.unwrap();
        }
        if life != 1 {
            controller.shutdown().await.unwrap();
        }
    }
    told
}

async fn check(told: &[(u64, String)], moment: &Moment, survival: Survival) -> Result<(), String> {
    let disk = moment.restart(survival);
    let clock = ManualClock::new(NOW_MS + 1_000_000);
    let controller = start(&disk, &clock).map_err(|error| error.to_string())?;
    let known = |controller: &Controller| -> Result<(), String> {
        let image = controller.image();
        let mut due = told.iter().filter(|(at, _)| *at < moment.change);
        match due.find(|(_, name)| image.topic(name).is_none_or(|topic| topic.partitions.len() != 3)) {
            Some((_, name)) => Err(format!("{name} was acknowledged and is gone")),
            None => Ok(()),
        }
    };
    known(&controller)?;
    if create(&controller, "later").await != 0 {
        return Err("no topic can be made any more".to_owned());
    }
    drop(controller);
    let again = start(&disk.restart(Survival::Nothing), &clock).map_err(|error| format!("again: {error}"))?;
    known(&again).map_err(|broken| format!("again: {broken}"))?;
    if again.image().topic("later").is_none() {
        return Err("what came after the cut is gone".to_owned());
    }
    Ok(())
}

#[test]
fn metadata_and_its_snapshots_survive_a_power_cut_at_every_call() {
    let runtime = Runtime::new().unwrap();
    let disk = HostileDisk::new();
    disk.create_folder("/data".as_ref()).unwrap();
    disk.sync_dir("/".as_ref()).unwrap();
    disk.record();
    let told = runtime.block_on(work(&disk));
    let moments = disk.moments();
    for call in ["rename", "remove", "sync"] {
        let is_snapshot = |moment: &&Moment| moment.call.starts_with(call);
        assert!(moments.iter().any(|moment| is_snapshot(&moment)), "no {call} to cut at");
    }
    let mut count = Count { workloads: 1, ..Count::default() };
    let step = if seeds(0) == 0 { 2 } else { 1 };
    for moment in moments.iter().step_by(step) {
        count.moments += 1;
        for survival in survivals(moment.change, seeds(0)) {
            count.restarts += 1;
            let checked = catch_unwind(AssertUnwindSafe(|| runtime.block_on(check(&told, moment, survival))));
            if let Err(broken) = checked.map_err(|panic| panic_text(&*panic)).and_then(|checked| checked) {
                count.broken.push(format!("{moment:?}, {survival:?}: {broken}"));
            }
        }
        if count.broken.len() > 10 {
            break;
        }
    }
    count.finish("metadata snapshots");
}
