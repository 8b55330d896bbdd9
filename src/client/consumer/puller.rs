//! Fetches from one broker, always one request ahead of the caller.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::net::outgoing::{Connection, Pending};
use crate::protocol::ErrorCode;
use crate::protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use crate::protocol::messages::fetch_response::{FetchResponse, PartitionData};
use crate::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::record::{BatchError, batches};
use crate::types::BrokerId;

use super::super::cluster::Cluster;
use super::super::config::{ConsumerOptions, IsolationLevel, OffsetReset};
use super::super::error::{BrokerError, ClientError};
use super::fetched::Fetched;
use super::router::Place;
use super::{ConsumeError, Pulled};

/// The first Fetch version that names topics by their ids alone.
const TOPIC_IDS_FROM: i16 = 13;
/// From this Fetch version on a leader compares the epoch of what was read last with its own log.
const DIVERGENCE_FROM: i16 = 12;
/// `ListOffsets`: the log's end, and its start.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// What every puller of a consumer shares.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) cluster: Cluster,
    pub(super) options: ConsumerOptions,
    pub(super) tell: mpsc::Sender<Pulled>,
    /// Partitions whose leader is elsewhere.
    pub(super) returned: mpsc::UnboundedSender<Place>,
}

/// What becomes of a partition after an answer.
#[allow(clippy::large_enum_variant, reason = "it lives from one call to the next, once for each answer")]
enum Next {
    /// It is fetched on.
    Stay(Place),
    /// It is done with here.
    Gone,
}

/// Nobody listens any more.
struct Unheard;

/// Fetches until the broker fails or nobody listens.
pub(super) async fn run(
    setting: Setting,
    (broker, connection): (BrokerId, Connection),
    mut inbox: mpsc::UnboundedReceiver<Vec<Place>>,
) {
    let mut places: Vec<Place> = Vec::new();
    loop {
        while let Ok(more) = inbox.try_recv() {
            places.extend(more);
        }
        if places.is_empty() {
            match inbox.recv().await {
                Some(more) => places.extend(more),
                None => return,
            }
        }
        let answer = match ask(&setting, &connection, &places) {
            Ok(pending) => tokio::select! {
                answer = setting.cluster.answer((broker, &connection), pending.answer()) => answer.map_err(ClientError::from),
                () = setting.tell.closed() => return,
            },
            Err(error) => Err(error),
        };
        let outcome = match answer.and_then(check) {
            Ok(response) => deal(&setting, &mut places, response).await,
            Err(error) => {
                places.drain(..).for_each(|place| send_back(&setting, place, &error));
                if connection.broken().is_some() {
                    return give_back(&setting, inbox, &error).await;
                }
                Ok(())
            }
        };
        if outcome.is_err() {
            return;
        }
    }
}

/// Returns everything that is handed over: the broker cannot be reached.
pub(super) async fn give_back(
    setting: &Setting,
    mut inbox: mpsc::UnboundedReceiver<Vec<Place>>,
    error: &ClientError,
) {
    inbox.close();
    while let Some(places) = inbox.recv().await {
        places.into_iter().for_each(|place| send_back(setting, place, error));
    }
}

fn send_back(setting: &Setting, mut place: Place, error: &ClientError) {
    place.failures += 1;
    place.last_failure = Some(error.clone());
    go_to_leader(setting, place);
}

fn go_to_leader(setting: &Setting, place: Place) {
    // Without a router there is nobody to read for.
    let _ = setting.returned.send(Place { nearest: None, ..place });
}

fn check(response: FetchResponse) -> Result<FetchResponse, ClientError> {
    BrokerError::check(response.error_code, || "fetch".to_owned(), None)?;
    Ok(response)
}

fn ask(
    setting: &Setting,
    connection: &Connection,
    places: &[Place],
) -> Result<Pending<FetchRequest>, ClientError> {
    let options = &setting.options;
    let has_ids = places.iter().all(|place| !place.topic_id.is_zero());
    let version =
        connection.version_of::<FetchRequest>(if has_ids { i16::MAX } else { TOPIC_IDS_FROM - 1 })?;
    let mut topics: Vec<FetchTopic> = Vec::new();
    for place in places {
        let partition = FetchPartition {
            partition: place.assignment.partition.partition,
            fetch_offset: place.position,
            current_leader_epoch: place.leader_epoch,
            last_fetched_epoch: if version >= DIVERGENCE_FROM { place.history.last_epoch() } else { -1 },
            partition_max_bytes: place.bytes_max,
            ..Default::default()
        };
        match topics.iter_mut().find(|topic| topic.topic == *place.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic {
                topic: (&*place.topic).into(),
                topic_id: place.topic_id,
                partitions: vec![partition],
                ..Default::default()
            }),
        }
    }
    // Where all ends are known what is wanted is there, or never will be.
    let is_bounded = places.iter().all(|place| place.assignment.end.is_some());
    let wait = if is_bounded { Duration::ZERO } else { options.fetch_wait_max };
    let request = FetchRequest {
        max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: options.fetch_bytes_min,
        max_bytes: options.fetch_bytes_max,
        isolation_level: match options.isolation {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        },
        topics,
        rack_id: options.rack.as_str().into(),
        ..Default::default()
    };
    Ok(connection.start(&request, version, setting.cluster.options().request_timeout + wait)?)
}

/// Goes through an answer, partition by partition.
async fn deal(setting: &Setting, places: &mut Vec<Place>, response: FetchResponse) -> Result<(), Unheard> {
    let mut answers: HashMap<(usize, i32), PartitionData> = HashMap::new();
    let mut is_empty = true;
    for topic in response.responses {
        let is_it = |place: &Place| {
            if topic.topic.is_empty() {
                place.topic_id == topic.topic_id
            } else {
                *place.topic == *topic.topic
            }
        };
        let Some(first) = places.iter().position(is_it) else { continue };
        for partition in topic.partitions {
            is_empty &= partition.records.as_ref().is_none_or(|records| records.is_empty());
            answers.insert((first, partition.partition_index), partition);
        }
    }
    let mut stay = Vec::with_capacity(places.len());
    let firsts: Vec<usize> =
        places.iter().map(|p| places.iter().position(|q| q.topic == p.topic).unwrap_or(0)).collect();
    let mut is_stalled = is_empty;
    for (place, first) in places.drain(..).zip(firsts) {
        let answer = answers.remove(&(first, place.assignment.partition.partition));
        let before = place.position;
        match one(setting, place, answer, is_empty).await? {
            Next::Stay(place) => {
                is_stalled &= place.position == before;
                stay.push(place);
            }
            Next::Gone => is_stalled = false,
        }
    }
    *places = stay;
    if is_stalled && places.iter().all(|place| place.assignment.end.is_some()) {
        // Offsets below the end that the broker does not show yet: a new leader's high watermark lags.
        setting.cluster.pause(1).await;
    }
    Ok(())
}

async fn one(
    setting: &Setting,
    mut place: Place,
    answer: Option<PartitionData>,
    is_answer_empty: bool,
) -> Result<Next, Unheard> {
    let Some(answer) = answer else { return Ok(Next::Stay(place)) };
    match ErrorCode::from_wire(answer.error_code) {
        ErrorCode::None => {}
        ErrorCode::OffsetOutOfRange if place.nearest.is_some() => {
            // A follower may be behind; the leader knows.
            go_to_leader(setting, place);
            return Ok(Next::Gone);
        }
        ErrorCode::OffsetOutOfRange => return jump(setting, place).await,
        code if code.is_retriable() => {
            let about = place.assignment.partition.to_string();
            send_back(setting, place, &BrokerError { code, about, message: None }.into());
            return Ok(Next::Gone);
        }
        code => return fail(setting, place, ConsumeError::Refused(code)).await,
    }
    place.failures = 0;
    let now = setting.cluster.options().clock.elapsed();
    if answer.preferred_read_replica >= 0 {
        // Nothing but the name of a replica in the same rack.
        let until = now + setting.cluster.options().metadata_age_max;
        place.nearest = Some((BrokerId(answer.preferred_read_replica), until));
        let _ = setting.returned.send(place);
        return Ok(Next::Gone);
    }
    let is_nearest_no_more = place.nearest.is_some_and(|(_, until)| until <= now);
    if answer.diverging_epoch.end_offset >= 0 {
        let agreed = (answer.diverging_epoch.epoch, answer.diverging_epoch.end_offset);
        return step_back(setting, place, agreed).await;
    }
    let high_watermark = answer.high_watermark;
    let fetched = match take(setting, &mut place, answer) {
        Ok(fetched) => fetched,
        Err(source) => {
            let offset = place.position;
            return fail(setting, place, ConsumeError::Damaged { offset, source }).await;
        }
    };
    let is_hole = fetched.is_none() && is_answer_empty;
    if let Some(fetched) = fetched {
        tell(setting, Pulled::Data(fetched)).await?;
    }
    // Nothing stands between the position and the end: compaction took it.
    if is_hole && place.assignment.end.is_some_and(|end| high_watermark >= end) {
        place.position = place.assignment.end.unwrap_or(place.position);
    }
    if place.is_at_end() {
        tell(setting, Pulled::Ended(place.assignment.partition)).await?;
        return Ok(Next::Gone);
    }
    if is_nearest_no_more {
        go_to_leader(setting, place);
        return Ok(Next::Gone);
    }
    Ok(Next::Stay(place))
}

/// The whole batches of an answer; the position moves behind the last one.
fn take(setting: &Setting, place: &mut Place, answer: PartitionData) -> Result<Option<Fetched>, BatchError> {
    let bytes = answer.records.as_ref().and_then(|records| records.inline()).cloned().unwrap_or_default();
    let from = place.position;
    let whole = whole_batches(setting, place, &bytes)?;
    if whole == 0 {
        if !bytes.is_empty() {
            place.bytes_max = place.bytes_max.saturating_mul(2);
        }
        return Ok(None);
    }
    let mut aborted: Vec<(i64, i64)> = answer
        .aborted_transactions
        .unwrap_or_default()
        .iter()
        .map(|aborted| (aborted.producer_id, aborted.first_offset))
        .collect();
    aborted.sort_unstable_by_key(|&(_, first_offset)| first_offset);
    Ok(Some(Fetched {
        topic: Arc::clone(&place.topic),
        partition: place.assignment.partition.partition,
        from,
        end: place.assignment.end.unwrap_or(i64::MAX),
        batches: bytes.slice(..whole),
        log_start: answer.log_start_offset,
        last_stable: answer.last_stable_offset,
        high_watermark: answer.high_watermark,
        aborted,
    }))
}

/// How many bytes are whole batches up to the end that is wanted.
fn whole_batches(setting: &Setting, place: &mut Place, bytes: &Bytes) -> Result<usize, BatchError> {
    let (mut whole, from) = (0, place.position);
    for batch in batches(bytes) {
        let checked = batch.and_then(|batch| {
            if setting.options.check_crcs {
                batch.check_crc()?;
            }
            Ok(batch)
        });
        let batch = match checked {
            // The broker cuts an answer where its size is reached.
            Err(BatchError::Truncated { .. }) => break,
            // What is sound comes first; the next fetch begins with the damage.
            Err(_) if place.position > from => break,
            checked => checked?,
        };
        whole += batch.bytes.len();
        // A batch before the position is what a broker may send along, and moves nothing.
        if batch.header.next_offset().0 > place.position {
            place.history.read(place.position, batch.header.leader_epoch.0);
            place.position = batch.header.next_offset().0;
        }
        if place.is_at_end() {
            break;
        }
    }
    Ok(whole)
}

/// The offset is not there: goes where `auto.offset.reset` says.
async fn jump(setting: &Setting, mut place: Place) -> Result<Next, Unheard> {
    let offset = place.position;
    let timestamp = match setting.options.offset_reset {
        OffsetReset::Earliest => EARLIEST,
        OffsetReset::Latest => LATEST,
        OffsetReset::None => return fail(setting, place, ConsumeError::OutOfRange { offset }).await,
    };
    match look_up(setting, &place, timestamp).await {
        Ok(to) => {
            place.position = to;
            place.history.forget();
            let partition = place.assignment.partition.clone();
            tell(setting, Pulled::Jumped { partition, from: offset, to }).await?;
            if place.is_at_end() {
                tell(setting, Pulled::Ended(place.assignment.partition)).await?;
                return Ok(Next::Gone);
            }
            Ok(Next::Stay(place))
        }
        Err(error) if error.is_retriable() => {
            send_back(setting, place, &error);
            Ok(Next::Gone)
        }
        Err(error) => fail(setting, place, error.into()).await,
    }
}

/// Records that were read have been taken back: with the leader's log what was read agrees no further than to the end
/// of this epoch there.
async fn step_back(setting: &Setting, mut place: Place, agreed: (i32, i64)) -> Result<Next, Unheard> {
    let from = place.position;
    let to = place.history.step_back(from, agreed);
    if to < from && setting.options.offset_reset == OffsetReset::None {
        return fail(setting, place, ConsumeError::TakenBack { offset: from, agreed: to }).await;
    }
    place.position = to;
    if to < from {
        let partition = place.assignment.partition.clone();
        tell(setting, Pulled::Jumped { partition, from, to }).await?;
    }
    Ok(Next::Stay(place))
}

async fn look_up(setting: &Setting, place: &Place, timestamp: i64) -> Result<i64, ClientError> {
    let partition = &place.assignment.partition;
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: (&*place.topic).into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition.partition,
                timestamp,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = setting.cluster.to_leader(partition, &request).await?;
    let found = response.topics.iter().flat_map(|topic| &topic.partitions).next();
    let code = found.map_or(ErrorCode::UnknownServerError.code(), |found| found.error_code);
    BrokerError::check(code, || partition.to_string(), None)?;
    Ok(found.map_or(0, |found| found.offset))
}

async fn fail(setting: &Setting, place: Place, error: ConsumeError) -> Result<Next, Unheard> {
    tell(setting, Pulled::Failed(place.assignment.partition, error)).await?;
    Ok(Next::Gone)
}

async fn tell(setting: &Setting, pulled: Pulled) -> Result<(), Unheard> {
    setting.tell.send(pulled).await.map_err(|_| Unheard)
}
