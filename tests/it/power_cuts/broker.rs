//! The whole broker on the hostile disk, over the real protocol: what it has answered is there after a power cut,
//! its metadata and its clean stops too.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use klamm::config::{BrokerConfig, Layers};
use klamm::protocol::Str;
use klamm::protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use klamm::protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use klamm::server::{Broker, BrokerOptions};
use klamm::storage::hostile::{HostileDisk, Moment, Survival};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::{Count, panic_text, seeds, survivals};
use crate::harness::{Client, batch, idempotent, name_of};
use crate::random::Random;

/// Every batch of these is on the disk before it is acknowledged.
const SYNCED: &[(&str, &str)] = &[("flush.messages", "1")];

/// What was answered.
#[derive(Debug, Clone)]
enum Fact {
    /// A topic is there, or is on its way out, or is gone.
    Topic(String, Option<bool>),
    /// What was acknowledged at an offset of a partition, and is to survive.
    Value(String, i32, i64),
}

struct Told {
    disk: Arc<HostileDisk>,
    /// With the change after which each was answered.
    facts: Vec<(u64, Fact)>,
    /// Everything that was ever sent to a partition; its place is its offset.
    sent: BTreeMap<(String, i32), Vec<Vec<u8>>>,
}

pub async fn start(disk: &Arc<HostileDisk>) -> Result<Broker, String> {
    let layers = Layers {
        dirs: vec!["/data/d0".into(), "/data/d1".into()],
        listen: vec!["127.0.0.1:0".to_owned()],
        ..Layers::default()
    };
    let (config, _) = BrokerConfig::load(layers).map_err(|error| error.to_string())?;
    let disk = Arc::<HostileDisk>::clone(disk);
    let options = BrokerOptions { disk, listens: false, ..BrokerOptions::new(config) };
    Broker::start(options).await.map_err(|error| format!("the broker does not start: {error}"))
}

pub fn connect(broker: &Broker) -> Client {
    let (ours, theirs) = UnixStream::pair().unwrap();
    broker.attach(theirs);
    Client::over(ours)
}

impl Told {
    fn new() -> Self {
        Self { disk: HostileDisk::new(), facts: Vec::new(), sent: BTreeMap::new() }
    }

    fn note(&mut self, fact: Fact) {
        self.facts.push((self.disk.changes(), fact));
    }

    async fn create(&mut self, client: &mut Client, name: &str, configs: &[(&str, &str)]) {
        client.create_topic(name, 2, configs).await;
        self.note(Fact::Topic(name.to_owned(), Some(true)));
    }

    async fn delete(&mut self, client: &mut Client, name: &str) {
        let topic = DeleteTopicState { name: Some(Str::from(name)), ..DeleteTopicState::default() };
        // While it is under way nothing is known of the topic.
        self.note(Fact::Topic(name.to_owned(), None));
        let request =
            DeleteTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..DeleteTopicsRequest::default() };
        assert_eq!(client.ask_latest(&request).await.responses[0].error_code, 0);
        self.note(Fact::Topic(name.to_owned(), Some(false)));
    }

    async fn produce(&mut self, client: &mut Client, (topic, partition): (&str, i32), sequence: Option<i32>) {
        let sent = self.sent.entry((topic.to_owned(), partition)).or_default();
        let value = format!("{topic}-{partition}-{}", sent.len()).into_bytes();
        sent.push(value.clone());
        let expected = sent.len() as i64 - 1;
        let bytes = match sequence {
            Some(sequence) => idempotent((7, 0), sequence, &[&value]),
            None => batch([&value[..]]),
        };
        let answer = client.produce(topic, partition, bytes).await;
        assert_eq!((name_of(answer.error_code), answer.base_offset), ("NONE", expected));
        if topic != "unsynced" {
            self.note(Fact::Value(topic.to_owned(), partition, answer.base_offset));
        }
    }
}

/// A first start, a topic, a record.
async fn first_start(told: &mut Told) {
    let broker = start(&told.disk).await.unwrap();
    let mut client = connect(&broker);
    told.create(&mut client, "t", SYNCED).await;
    told.produce(&mut client, ("t", 0), None).await;
}

/// Topics that come and go, synced and not, through clean stops.
async fn life(told: &mut Told) {
    let broker = start(&told.disk).await.unwrap();
    let mut client = connect(&broker);
    told.create(&mut client, "t", SYNCED).await;
    told.create(&mut client, "unsynced", &[]).await;
    for index in 0..4 {
        told.produce(&mut client, ("t", index % 2), None).await;
        told.produce(&mut client, ("unsynced", 0), None).await;
    }
    told.create(&mut client, "gone", SYNCED).await;
    told.produce(&mut client, ("gone", 0), None).await;
    for sequence in 0..3 {
        told.produce(&mut client, ("t", 0), Some(sequence)).await;
    }
    told.delete(&mut client, "gone").await;
    broker.shutdown().await.unwrap();
    let broker = start(&told.disk).await.unwrap();
    let mut client = connect(&broker);
    told.create(&mut client, "u", SYNCED).await;
    told.produce(&mut client, ("u", 1), None).await;
    told.produce(&mut client, ("t", 1), None).await;
    told.produce(&mut client, ("unsynced", 0), None).await;
    broker.shutdown().await.unwrap();
    let broker = start(&told.disk).await.unwrap();
    let mut client = connect(&broker);
    told.produce(&mut client, ("u", 0), None).await;
    told.produce(&mut client, ("t", 0), Some(3)).await;
}

pub async fn exists(client: &mut Client, topic: &str) -> bool {
    let asked = MetadataRequestTopic { name: Some(Str::from(topic)), ..MetadataRequestTopic::default() };
    let request = MetadataRequest {
        topics: Some(vec![asked]),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    client.ask_latest(&request).await.topics[0].error_code == 0
}

/// A broker starts on what is left, and gives what was promised.
async fn check(told: &Told, moment: &Moment, survival: Survival) -> Result<(), String> {
    let disk = moment.restart(survival);
    let broker = start(&disk).await?;
    let mut client = connect(&broker);
    let known = || told.facts.iter().filter(|(at, _)| *at < moment.change).map(|(_, fact)| fact);
    let topics: BTreeMap<&str, Option<bool>> = known()
        .filter_map(|fact| match fact {
            Fact::Topic(name, is_there) => Some((name.as_str(), *is_there)),
            Fact::Value(..) => None,
        })
        .collect();
    for (name, wanted) in &topics {
        let is_there = exists(&mut client, name).await;
        if wanted.is_some_and(|wanted| wanted != is_there) {
            return Err(format!("topic {name}: it is {is_there} that it is there"));
        }
    }
    let is_there = |topic: &str| topics.get(topic) == Some(&Some(true));
    for ((topic, partition), sent) in told.sent.iter().filter(|((topic, _), _)| is_there(topic)) {
        let found = client.read_all(topic, *partition).await;
        let values = found.iter().map(|(_, value)| value);
        if !found.iter().map(|(offset, _)| *offset).eq(0..found.len() as i64)
            || !values.eq(sent.iter().take(found.len()))
        {
            return Err(format!("{topic}-{partition} is no prefix of what was sent: {found:?}"));
        }
        for fact in known() {
            if let Fact::Value(of, number, offset) = fact
                && (of, number) == (topic, partition)
                && *offset >= found.len() as i64
            {
                return Err(format!("{topic}-{partition} has lost what was acknowledged at {offset}"));
            }
        }
        let answer = client.produce(topic, *partition, batch([&b"later"[..]])).await;
        if answer.error_code != 0 || answer.base_offset != found.len() as i64 {
            return Err(format!("{topic}-{partition} takes no batch: {answer:?}"));
        }
    }
    broker.shutdown().await.map_err(|error| format!("the broker does not stop: {error}"))
}

/// Runs `work` to its end, then cuts the power at every `step`th call.
fn cut(name: &str, work: &impl AsyncFn(&mut Told), (step, few): (usize, u64)) {
    let runtime = Runtime::new().unwrap();
    let mut told = Told::new();
    told.disk.record();
    runtime.block_on(work(&mut told));
    let moments = told.disk.moments();
    let mut count = Count { workloads: 1, ..Count::default() };
    let mut random = Random::from_seed(moments.len() as u64);
    let step = if seeds(0) == 0 { step } else { 1 };
    for moment in moments.iter().skip(random.below(step)).step_by(step) {
        count.moments += 1;
        for survival in survivals(moment.change + random.next() % 7, seeds(few)) {
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
    count.finish(name);
}

#[test]
fn a_first_start_may_be_cut_at_every_call() {
    cut("a first start of a broker", &first_start, (1, 1));
}

#[test]
fn what_a_broker_has_answered_is_there_after_a_power_cut() {
    cut("the life of a broker", &life, (5, 0));
}
