//! Bits that turn over before a recovery are never served as records, by the whole broker.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use klamm::storage::Disk as _;
use klamm::storage::hostile::{HostileDisk, Survival};
use tokio::runtime::Runtime;

use super::broker::{connect, exists, start};
use super::{Count, panic_text, seeds};
use crate::harness::{batch, name_of};
use crate::random::Random;

const PARTITIONS: i32 = 2;

/// What was acknowledged: the values of each partition by offset.
#[derive(Default)]
struct Acknowledged {
    values: BTreeMap<(i32, i64), Vec<u8>>,
}

/// Writes to two directories.
async fn work(disk: &Arc<HostileDisk>, told: &mut Acknowledged) -> Result<(), String> {
    let broker = start(disk).await?;
    let mut client = connect(&broker);
    client.create_topic("t", PARTITIONS, &[("flush.messages", "1")]).await;
    for round in 0..5 {
        for partition in 0..PARTITIONS {
            let value = format!("{partition}-{round}").into_bytes();
            let answer = client.produce("t", partition, batch([&value[..]])).await;
            assert_eq!(answer.error_code, 0, "{}", name_of(answer.error_code));
            told.values.insert((partition, answer.base_offset), value);
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
