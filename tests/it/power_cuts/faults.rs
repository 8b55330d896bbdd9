//! One call that fails, whichever it is, under the whole broker: the directory of the disk goes offline, the other
//! serves on, nobody tries again, and what was acknowledged is there after the power cut that follows. Bits that turn
//! over are never served as records.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use klamm::protocol::Str;
use klamm::protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use klamm::record::batches;
use klamm::storage::Disk as _;
use klamm::storage::disk::read_small;
use klamm::storage::hostile::{Failure, HostileDisk, Survival};
use tokio::runtime::Runtime;

use super::broker::{connect, exists, start};
use super::{Count, panic_text, seeds, survivals};
use crate::harness::{Client, batch, name_of};
use crate::random::Random;

const PARTITIONS: i32 = 2;

/// The first holds the metadata.
const DIRECTORIES: [&str; 2] = ["/data/d0", "/data/d1"];

/// What was acknowledged: the topic, and the values of each partition by offset.
#[derive(Clone)]
struct Acknowledged {
    topic: bool,
    sent: usize,
    /// The call that failed meanwhile.
    failed: Option<String>,
    /// What is read short once may be there the next time: that costs one answer, and no directory.
    may_recover: bool,
    values: BTreeMap<(i32, i64), Vec<u8>>,
    /// The partitions whose last batch was refused.
    refused: BTreeSet<i32>,
    /// The disk as it was when the broker was told to stop.
    before_stop: Arc<HostileDisk>,
}

impl Acknowledged {
    fn nothing() -> Self {
        Self {
            topic: false,
            sent: 0,
            failed: None,
            may_recover: false,
            values: BTreeMap::new(),
            refused: BTreeSet::new(),
            before_stop: HostileDisk::new(),
        }
    }

    /// Whether a call below this directory has failed.
    fn has_failed(&self, directory: &str) -> bool {
        let failed = self.failed.as_deref().and_then(|failed| failed.split_once(' '));
        failed.is_some_and(|(_, path)| path == directory || path.starts_with(&format!("{directory}/")))
    }
}

async fn create(client: &mut Client) -> i16 {
    let config = |name: &str, value: &str| CreatableTopicConfig {
        name: Str::from(name),
        value: Some(Str::from(value)),
        ..CreatableTopicConfig::default()
    };
    let topic = CreatableTopic {
        name: Str::from("t"),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        configs: vec![config("flush.messages", "1"), config("index.interval.bytes", "1")],
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    client.ask_latest(&request).await.topics[0].error_code
}

/// Writes to two directories until one fails, and on. The error says what should not have been.
async fn work(disk: &Arc<HostileDisk>, told: &mut Acknowledged) -> Result<(), String> {
    let started = start(disk).await;
    told.failed = disk.failed_call();
    let broker = match started {
        Ok(broker) => broker,
        Err(_) if told.failed.is_some() => return Ok(()),
        Err(error) => return Err(error),
    };
    // One that could not even be opened is as the life before left it.
    let untouched = DIRECTORIES.map(|directory| is_marked(disk, directory));
    let mut client = connect(&broker);
    told.topic = told.topic || create(&mut client).await == 0;
    for _ in 0..if told.topic { 4 } else { 0 } {
        for partition in 0..PARTITIONS {
            write(&mut client, told, partition).await?;
        }
    }
    told.before_stop = disk.restart(Survival::Everything);
    told.failed = disk.failed_call();
    // Where nothing has failed yet, the stop is what meets it.
    if told.failed.is_some() {
        for partition in 0..if told.topic { PARTITIONS } else { 0 } {
            check_served(disk, &mut client, told, partition).await?;
        }
    }
    let is_clean = broker.shutdown().await.is_ok();
    told.failed = disk.failed_call();
    for (directory, untouched) in DIRECTORIES.into_iter().zip(untouched) {
        let has_failed = !told.refused.is_empty() && told.has_failed(directory) && !told.may_recover;
        if has_failed && !untouched && is_marked(disk, directory) {
            return Err(format!("{directory} is marked clean"));
        }
    }
    if told.failed.is_none() && !is_clean { Err("it does not stop".to_owned()) } else { Ok(()) }
}

fn is_marked(disk: &HostileDisk, directory: &str) -> bool {
    let mark = format!("{directory}/.kafka_cleanshutdown");
    disk.files(directory.as_ref()).iter().any(|file| *file == *mark)
}

/// One batch. A partition whose directory was lost takes none again.
async fn write(client: &mut Client, told: &mut Acknowledged, partition: i32) -> Result<(), String> {
    told.sent += 1;
    let value = format!("{partition}-{}", told.sent).into_bytes();
    let answer = client.produce("t", partition, batch([&value[..]])).await;
    match name_of(answer.error_code) {
        "NONE" if told.refused.remove(&partition) && !told.may_recover => {
            return Err(format!("{partition} takes batches again"));
        }
        "NONE" => drop(told.values.insert((partition, answer.base_offset), value)),
        "KAFKA_STORAGE_ERROR" => drop(told.refused.insert(partition)),
        other => return Err(format!("{partition} answers {other}: {:?}", answer.error_message)),
    }
    Ok(())
}

/// A partition whose log lies in a directory that works is served, with all that was acknowledged.
async fn check_served(
    disk: &Arc<HostileDisk>,
    client: &mut Client,
    told: &Acknowledged,
    partition: i32,
) -> Result<(), String> {
    let lies_in = |directory: &&&str| {
        let folder = format!("{directory}/t-{partition}");
        disk.files(directory.as_ref()).iter().any(|file| file.starts_with(&folder))
    };
    let home = DIRECTORIES.iter().find(lies_in);
    let is_served = client.fetch_code("t", partition, 0).await == "NONE";
    // Without the directory of the metadata the broker is on its way out.
    let is_due = home.is_some_and(|home| !told.has_failed(home)) && !told.has_failed(DIRECTORIES[0]);
    if is_due && (!is_served || told.refused.contains(&partition)) {
        return Err(format!("{partition} in {home:?} is refused"));
    }
    if is_served { check_values(told, partition, &client.read_all("t", partition).await) } else { Ok(()) }
}

/// Everything that was acknowledged is at its offset, and no other offset is missing.
fn check_values(told: &Acknowledged, partition: i32, found: &[(i64, Vec<u8>)]) -> Result<(), String> {
    let is_whole = found.iter().map(|(offset, _)| *offset).eq(0..found.len() as i64);
    let is_there = |at: i64, value: &Vec<u8>| found.iter().any(|one| one.0 == at && one.1 == *value);
    let lost = told.values.iter().find(|((of, at), value)| *of == partition && !is_there(*at, value));
    match lost {
        None if is_whole => Ok(()),
        lost => Err(format!("{partition} holds {found:?}, lost: {lost:?}")),
    }
}

async fn check_restart(disk: &Arc<HostileDisk>, told: &Acknowledged) -> Result<(), String> {
    let broker = start(disk).await?;
    let mut client = connect(&broker);
    for partition in 0..if told.topic { PARTITIONS } else { 0 } {
        check_values(told, partition, &client.read_all("t", partition).await)?;
        let answer = client.produce("t", partition, batch([&b"later"[..]])).await;
        if answer.error_code != 0 {
            return Err(format!("{partition} takes no batch: {}", name_of(answer.error_code)));
        }
    }
    broker.shutdown().await.map_err(|error| error.to_string())
}

/// Within a minute, without a panic.
fn guarded(runtime: &Runtime, work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let timed = async { tokio::time::timeout(Duration::from_secs(60), work).await };
    let done = catch_unwind(AssertUnwindSafe(|| runtime.block_on(timed)));
    match done {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err("it hangs".to_owned()),
        Err(panic) => Err(panic_text(&*panic)),
    }
}

/// Lets every `step`th call of a life fail that begins on `disk`, in each way.
fn fail_everywhere(count: &mut Count, name: &str, (disk, before): (&Arc<HostileDisk>, &Acknowledged)) {
    let runtime = Runtime::new().unwrap();
    let whole = disk.restart(Survival::Everything);
    guarded(&runtime, work(&whole, &mut before.clone())).unwrap();
    let calls = whole.calls();
    let mut random = Random::from_seed(calls);
    let step = if seeds(0) == 0 { 41 } else { 1 };
    for failure in [Failure::EIO, Failure::ENOSPC, Failure::ShortRead] {
        count.workloads += 1;
        for nth in (1 + random.below(step) as u64..calls).step_by(step) {
            let disk = disk.restart(Survival::Everything);
            disk.fail_call(nth, failure);
            let mut told = before.clone();
            told.may_recover = failure == Failure::ShortRead;
            let mut done = guarded(&runtime, work(&disk, &mut told));
            count.moments += u64::from(told.failed.is_some());
            for survival in survivals(random.next() % 1_000, seeds(0)) {
                count.restarts += 1;
                let disk = disk.restart(survival);
                done = done.and_then(|()| guarded(&runtime, check_restart(&disk, &told)));
            }
            if let Err(broken) = done {
                count.broken.push(format!("{name}, {failure:?} at call {nth}, {:?}: {broken}", told.failed));
            }
        }
    }
}

#[test]
fn a_call_that_fails_under_a_broker_costs_its_directory_and_nothing_acknowledged() {
    let runtime = Runtime::new().unwrap();
    let mut count = Count::default();
    let (disk, mut told) = (HostileDisk::new(), Acknowledged::nothing());
    fail_everywhere(&mut count, "first start", (&disk, &told));
    // The lives that begin on what was there are for the long run.
    if seeds(0) > 0 {
        guarded(&runtime, work(&disk, &mut told)).unwrap();
        fail_everywhere(&mut count, "after a clean stop", (&disk, &told));
        let unclean = Arc::clone(&told.before_stop);
        fail_everywhere(&mut count, "after a kill", (&unclean, &told));
    }
    count.finish("calls that fail under a broker");
}

/// What is served is what was sent, up to where the damage is.
async fn check_damaged(disk: &Arc<HostileDisk>, told: &Acknowledged) -> Result<(), String> {
    // What is damaged may be what the start needs: then it says so.
    let Ok(broker) = start(disk).await else { return Ok(()) };
    let mut client = connect(&broker);
    if exists(&mut client, "t").await {
        for partition in 0..PARTITIONS {
            for (index, (offset, value)) in client.read_all("t", partition).await.iter().enumerate() {
                if *offset != index as i64 || told.values.get(&(partition, *offset)) != Some(value) {
                    return Err(format!("{partition} serves {value:?} at {offset}"));
                }
            }
        }
    }
    broker.shutdown().await.map_err(|error| error.to_string())
}

/// Whether a byte is of the base offset of a log's last batch, which stands outside the CRC. A recovery takes one that is
/// larger for what cleaning has left; `klamm verify` is who finds it.
fn is_last_base_offset(disk: &Arc<HostileDisk>, file: &Path, byte: u64) -> bool {
    let bytes = read_small(&**disk, file).unwrap().unwrap();
    let mut end = 0;
    let last = batches(&bytes).map_while(Result::ok).map(|batch| {
        end += batch.bytes.len() as u64;
        end - batch.bytes.len() as u64
    });
    let last = last.last().filter(|_| file.extension().is_some_and(|extension| extension == "log"));
    last.is_some_and(|last| (last..last + 8).contains(&byte))
}

#[test]
fn a_bit_that_turned_over_before_a_recovery_is_never_served() {
    let runtime = Runtime::new().unwrap();
    let disk = HostileDisk::new();
    let mut told = Acknowledged::nothing();
    disk.record();
    guarded(&runtime, work(&disk, &mut told)).unwrap();
    // While the last batch was on its way to the disk: no checkpoint knows of a recovery yet.
    let moments = disk.moments();
    let last =
        moments.iter().rfind(|moment| moment.call.starts_with("sync") && moment.call.ends_with("0.log"));
    let moment = last.unwrap();
    let mut count = Count { workloads: 1, ..Count::default() };
    let mut random = Random::from_seed(told.values.len() as u64);
    for file in moment.restart(Survival::Everything).files("/data".as_ref()) {
        for _ in 0..seeds(4) {
            let disk = moment.restart(Survival::Everything);
            // Of a preallocated index, the part that is in use.
            let bits = disk.stat(&file).unwrap().unwrap().len.min(2_048) * 8;
            let bit = random.next().checked_rem(bits).unwrap_or(0);
            if is_last_base_offset(&disk, &file, bit / 8) || !disk.flip_bit(&file, bit) {
                continue;
            }
            count.moments += 1;
            count.restarts += 1;
            if let Err(broken) = guarded(&runtime, check_damaged(&disk, &told)) {
                count.broken.push(format!("{}: {broken}", file.display()));
            }
        }
    }
    count.finish("bits that turn over");
}
