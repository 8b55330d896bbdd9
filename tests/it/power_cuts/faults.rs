//! One call that fails, whichever it is, under the whole broker: the directory of the disk goes offline, the other
//! serves on, nobody tries again, and what was acknowledged is there after the power cut that follows. Bits that turn
//! over are never served as records.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use klamm::protocol::Str;
use klamm::protocol::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use klamm::storage::Disk as _;
use klamm::storage::hostile::{Failure, HostileDisk, Survival};
use tokio::runtime::Runtime;

use super::broker::{connect, exists, start};
use super::{Count, panic_text, seeds};
use crate::harness::{Client, batch, name_of};
use crate::random::Random;

const PARTITIONS: i32 = 2;

/// What was acknowledged: the topic, and the values of each partition by offset.
#[derive(Default)]
struct Acknowledged {
    topic: bool,
    values: BTreeMap<(i32, i64), Vec<u8>>,
}

async fn create(client: &mut Client) -> i16 {
    let synced = CreatableTopicConfig {
        name: Str::from("flush.messages"),
        value: Some(Str::from("1")),
        ..CreatableTopicConfig::default()
    };
    let topic = CreatableTopic {
        name: Str::from("t"),
        num_partitions: PARTITIONS,
        replication_factor: 1,
        configs: vec![synced],
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    client.ask_latest(&request).await.topics[0].error_code
}

/// Writes to two directories until one fails, and on. The error says what should not have been.
async fn work(disk: &Arc<HostileDisk>, told: &mut Acknowledged) -> Result<(), String> {
    let Ok(broker) = start(disk).await else { return Ok(()) };
    let mut client = connect(&broker);
    told.topic = create(&mut client).await == 0;
    let mut refused = [false; PARTITIONS as usize];
    for round in 0..if told.topic { 5 } else { 0 } {
        for partition in 0..PARTITIONS {
            let value = format!("{partition}-{round}").into_bytes();
            let answer = client.produce("t", partition, batch([&value[..]])).await;
            let is_refused = &mut refused[partition as usize];
            match answer.error_code {
                0 if *is_refused => return Err(format!("{partition} takes batches again")),
                0 => drop(told.values.insert((partition, answer.base_offset), value)),
                _ => *is_refused = true,
            }
        }
    }
    let failed = disk.failed_call().unwrap_or_default();
    for partition in 0..PARTITIONS {
        let is_there = |file: &PathBuf| file.starts_with(format!("/data/d1/t-{partition}"));
        let is_second = disk.files("/data/d1".as_ref()).iter().any(is_there);
        let directory = if is_second { "/data/d1/" } else { "/data/d0/" };
        let is_elsewhere = !failed.contains(directory) && !failed.contains("/data/d0/");
        if refused[partition as usize] && is_elsewhere {
            return Err(format!("{partition} in {directory} is refused"));
        }
        if !refused[partition as usize] && told.topic {
            check_values(told, partition, &client.read_all("t", partition).await)?;
        }
    }
    let _ = broker.shutdown().await;
    Ok(())
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

#[test]
fn a_call_that_fails_under_a_broker_costs_its_directory_and_nothing_acknowledged() {
    let runtime = Runtime::new().unwrap();
    let whole = HostileDisk::new();
    guarded(&runtime, work(&whole, &mut Acknowledged::default())).unwrap();
    let calls = whole.calls();
    let mut count = Count::default();
    let mut random = Random::from_seed(calls);
    for failure in [Failure::EIO, Failure::ENOSPC, Failure::ShortRead] {
        count.workloads += 1;
        let step = if seeds(0) == 0 { 9 } else { 1 };
        for nth in (1 + random.below(step) as u64..calls).step_by(step) {
            let disk = HostileDisk::new();
            disk.fail_call(nth, failure);
            let mut told = Acknowledged::default();
            let mut done = guarded(&runtime, work(&disk, &mut told));
            let failed = disk.failed_call();
            count.moments += u64::from(failed.is_some());
            for survival in [Survival::Everything, Survival::Nothing, Survival::Seeded(random.next())] {
                count.restarts += 1;
                let disk = disk.restart(survival);
                done = done.and_then(|()| guarded(&runtime, check_restart(&disk, &told)));
            }
            if let Err(broken) = done {
                count.broken.push(format!("{failure:?} at call {nth}, {failed:?}: {broken}"));
            }
        }
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

#[test]
fn a_bit_that_turned_over_before_a_recovery_is_never_served() {
    let runtime = Runtime::new().unwrap();
    let disk = HostileDisk::new();
    let mut told = Acknowledged::default();
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
            if bits == 0 || !disk.flip_bit(&file, random.next() % bits) {
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
