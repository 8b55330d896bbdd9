//! Who fetches what: partitions are handed to one task a leader, and come back when their leader is another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::types::{BrokerId, Uuid};

use super::super::cluster::{Cluster, Lane};
use super::super::config::ConsumerOptions;
use super::super::error::ClientError;
use super::history::History;
use super::puller::{self, Setting};
use super::{Assignment, ConsumeError, Pulled};

/// A partition and how far it was read.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) assignment: Assignment,
    pub(super) topic: Arc<str>,
    pub(super) topic_id: Uuid,
    /// The next offset.
    pub(super) position: i64,
    /// The leader epochs of what was read, each with where it began.
    pub(super) history: History,
    /// The leader's epoch as the metadata has it: another leader, or one that knows of a newer one, refuses.
    pub(super) leader_epoch: i32,
    /// The replica in the same rack that the leader has named, and until when it is read from (KIP-392).
    pub(super) nearest: Option<(BrokerId, Duration)>,
    /// Failures in a row.
    pub(super) failures: u32,
    /// What the last one was.
    pub(super) last_failure: Option<ClientError>,
    /// How much is asked for: more than the option says where a batch alone is larger.
    pub(super) bytes_max: i32,
}

impl Place {
    pub(super) fn is_at_end(&self) -> bool {
        self.assignment.end.is_some_and(|end| self.position >= end)
    }
}

/// After so many failures in a row, of a kind that may pass, a partition is given up: a minute or so.
const FAILURES_MAX: u32 = 60;

/// Routes until the consumer is gone or every partition is done.
pub(super) async fn run(
    cluster: Cluster,
    options: ConsumerOptions,
    assignments: Vec<Assignment>,
    tell: mpsc::Sender<Pulled>,
) {
    let (returned, mut homeless) = mpsc::unbounded_channel();
    let setting =
        Setting { cluster: cluster.clone(), options: options.clone(), tell: tell.clone(), returned };
    let places = assignments.into_iter().map(|assignment| Place {
        topic: assignment.partition.topic.as_str().into(),
        topic_id: Uuid::ZERO,
        position: assignment.start,
        history: History::from(&assignment),
        leader_epoch: -1,
        nearest: None,
        assignment,
        failures: 0,
        last_failure: None,
        bytes_max: options.partition_bytes_max,
    });
    let mut places: Vec<Place> = places.collect();
    let mut pullers: HashMap<BrokerId, mpsc::UnboundedSender<Vec<Place>>> = HashMap::new();
    loop {
        let (ended, open): (Vec<Place>, Vec<Place>) = places.drain(..).partition(Place::is_at_end);
        for place in ended {
            if tell.send(Pulled::Ended(place.assignment.partition)).await.is_err() {
                return;
            }
        }
        let (by_leader, failed) = sort(&cluster, open).await;
        for (place, error) in failed {
            if tell.send(Pulled::Failed(place.assignment.partition, error)).await.is_err() {
                return;
            }
        }
        for (leader, places) in by_leader {
            hand_over(&setting, &mut pullers, leader, places);
        }
        // What comes back is collected for a moment: leaders move together.
        let returned = tokio::select! {
            place = homeless.recv() => place,
            () = tell.closed() => None,
        };
        let Some(place) = returned else { return };
        let failures = place.failures;
        places.push(place);
        if failures > 0 {
            cluster.pause(failures).await;
        }
        while let Ok(place) = homeless.try_recv() {
            places.push(place);
        }
        for place in places.iter().filter(|place| place.failures > 0) {
            cluster.forget_topic(&place.topic);
        }
    }
}

/// Finds each partition's leader; those without one come back as failures, or among the leaders again later.
async fn sort(
    cluster: &Cluster,
    places: Vec<Place>,
) -> (BTreeMap<BrokerId, Vec<Place>>, Vec<(Place, ConsumeError)>) {
    let (mut by_leader, mut failed) = (BTreeMap::<BrokerId, Vec<Place>>::new(), Vec::new());
    for mut place in places {
        if let Some(error) = place.last_failure.take_if(|_| place.failures >= FAILURES_MAX) {
            failed.push((place, error.into()));
            continue;
        }
        let found = match cluster.topic(&place.topic, false).await {
            Ok(topic) => {
                place.topic_id = topic.id;
                cluster.leader(&place.assignment.partition).await
            }
            Err(error) => Err(error),
        };
        match found {
            Ok((leader, epoch)) => {
                place.leader_epoch = epoch.0;
                let brokers = &cluster.latest().brokers;
                let now = cluster.options().clock.elapsed();
                place.nearest.take_if(|(nearest, until)| *until <= now || !brokers.contains_key(nearest));
                let broker = place.nearest.map_or(leader, |(nearest, _)| nearest);
                by_leader.entry(broker).or_default().push(place);
            }
            Err(error) => failed.push((place, error.into())),
        }
    }
    (by_leader, failed)
}

fn hand_over(
    setting: &Setting,
    pullers: &mut HashMap<BrokerId, mpsc::UnboundedSender<Vec<Place>>>,
    leader: BrokerId,
    places: Vec<Place>,
) {
    let places = match pullers.get(&leader) {
        Some(puller) => match puller.send(places) {
            Ok(()) => return,
            Err(mpsc::error::SendError(places)) => places,
        },
        None => places,
    };
    let (puller, inbox) = mpsc::unbounded_channel();
    // The receiver is about to be moved into the task: it is there.
    let _ = puller.send(places);
    pullers.insert(leader, puller);
    let setting = setting.clone();
    tokio::spawn(async move {
        match setting.cluster.connection(leader, Lane::Fetch).await {
            Ok(connection) => puller::run(setting, (leader, connection), inbox).await,
            Err(error) => puller::give_back(&setting, inbox, &error).await,
        }
    });
}
