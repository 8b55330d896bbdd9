//! BrokerHeartbeat, decided, and what time decides: who is fenced, who serves again, who may stop.
//!
//! A broker is opened to clients when it has applied the metadata up to its own registration. One that wants to stop
//! hands its leaderships over first, and may go when every broker that serves has heard of that. One that is
//! silent for `broker.session.timeout.ms`, or whose connection is lost with nobody at its port, is fenced.

use crate::metadata::record::LEVEL_DIRECTORIES;
use crate::metadata::{BrokerRegistration, METADATA_VERSION, MetadataRecord};
use crate::protocol::ErrorCode;
use crate::protocol::messages::broker_heartbeat_request::BrokerHeartbeatRequest;
use crate::protocol::messages::broker_heartbeat_response::BrokerHeartbeatResponse;
use crate::protocol::messages::broker_registration_change_record::BrokerRegistrationChangeRecord;
use crate::types::Uuid;

use super::brokers::{fence, unfence};
use super::decision::{Answer, Context, Decision, Refusal};
use super::elections::{arrive, balance, elect_uncleanly, leave, leave_where};

/// What a broker is, and what it becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Fenced,
    Serving,
    /// It hands its leaderships over.
    Stopping,
    /// It may go.
    Stopped,
}

/// Decides on one heartbeat.
pub(super) fn heartbeat(
    context: &mut Context<'_>,
    request: &BrokerHeartbeatRequest,
) -> Decision<BrokerHeartbeatResponse> {
    match beat(context, request) {
        Ok((records, answer)) => Decision { records, answer },
        Err(refusal) => {
            let mut answer = BrokerHeartbeatResponse { is_fenced: true, ..Default::default() };
            answer.refuse(&refusal);
            Decision { records: Vec::new(), answer }
        }
    }
}

fn beat(
    context: &mut Context<'_>,
    request: &BrokerHeartbeatRequest,
) -> Result<(Vec<MetadataRecord>, BrokerHeartbeatResponse), Refusal> {
    let id = request.broker_id;
    check_epoch(context, id, request.broker_epoch)?;
    let is_caught_up = is_caught_up(context, request);
    let (now, next) = transition(context, request, is_caught_up);
    let mut records = Vec::new();
    if now != next {
        records = match next {
            State::Fenced | State::Stopped => fence_broker(context, id)?,
            State::Serving => unfence_broker(context, id)?,
            State::Stopping => begin_stop(context, id)?,
        };
    }
    context.sessions.touch(id, request.current_metadata_offset, context.elapsed_ms);
    records.append(&mut fail_directories(context, id, &request.offline_log_dirs)?);
    records.append(&mut cordon_directories(context, request)?);
    if next == State::Stopping {
        context.sessions.begin_shutdown(id, context.next_offset + records.len() as i64 - 1);
    }
    let answer = BrokerHeartbeatResponse {
        is_caught_up,
        is_fenced: matches!(next, State::Fenced | State::Stopped),
        should_shut_down: next == State::Stopped,
        ..BrokerHeartbeatResponse::default()
    };
    Ok((records, answer))
}

/// A request in the name of a broker counts only in that broker's present life.
pub(super) fn check_epoch(context: &Context<'_>, broker: i32, epoch: i64) -> Result<(), Refusal> {
    let refuse = |message| Err(Refusal::new(ErrorCode::StaleBrokerEpoch, message));
    match context.image().broker(broker) {
        None => refuse(format!("Broker {broker} is not registered.")),
        Some(found) if found.epoch != epoch => {
            refuse(format!("Broker {broker} is in epoch {}, not {epoch}.", found.epoch))
        }
        Some(_) => Ok(()),
    }
}

/// A registration's epoch is its offset.
fn is_caught_up(context: &Context<'_>, request: &BrokerHeartbeatRequest) -> bool {
    let registered = context.image().broker(request.broker_id).map_or(i64::MAX, |broker| broker.epoch);
    request.current_metadata_offset >= registered
}

fn transition(context: &Context<'_>, request: &BrokerHeartbeatRequest, is_caught_up: bool) -> (State, State) {
    let id = request.broker_id;
    let broker = context.image().broker(id);
    let now = broker.map_or(State::Fenced, |broker| state_of(broker));
    // Who began to stop comes back as another life or not at all.
    let may_serve = is_caught_up && broker.is_some_and(|broker| !broker.in_controlled_shutdown);
    let next = match now {
        State::Fenced if request.want_shut_down => State::Stopped,
        State::Fenced if !request.want_fence && may_serve => State::Serving,
        State::Serving if request.want_shut_down && (request.want_fence || !leads(context, id)) => {
            State::Stopped
        }
        State::Serving if request.want_fence => State::Fenced,
        State::Serving if request.want_shut_down => State::Stopping,
        State::Stopping if !leads(context, id) && is_known_to_all(context, id) => State::Stopped,
        state => state,
    };
    (now, next)
}

fn state_of(broker: &BrokerRegistration) -> State {
    match (broker.fenced, broker.in_controlled_shutdown) {
        (true, _) => State::Fenced,
        (false, true) => State::Stopping,
        (false, false) => State::Serving,
    }
}

fn leads(context: &Context<'_>, broker: i32) -> bool {
    let mut partitions = context.image().topics().iter().flat_map(|topic| topic.partitions.values());
    partitions.any(|partition| partition.leader == broker)
}

/// Whether every broker that serves knows that it leads nothing any more. After a change of controllers the
/// offset is not known, and the broker begins anew.
fn is_known_to_all(context: &Context<'_>, broker: i32) -> bool {
    let offset = context.sessions.shutdown_offset(broker);
    offset.is_some_and(|offset| offset <= context.sessions.lowest_active_offset(context.image()))
}

/// Takes it out of every ISR and closes it to clients.
pub(super) fn fence_broker(context: &mut Context<'_>, broker: i32) -> Result<Vec<MetadataRecord>, Refusal> {
    let Some(epoch) = context.image().broker(broker).map(|broker| broker.epoch) else {
        return Ok(Vec::new());
    };
    let mut records = leave(context.image(), context.config, broker);
    records.push(fence(broker, epoch));
    context.apply(&records)?;
    Ok(records)
}

fn unfence_broker(context: &mut Context<'_>, broker: i32) -> Result<Vec<MetadataRecord>, Refusal> {
    let Some(epoch) = context.image().broker(broker).map(|broker| broker.epoch) else {
        return Ok(Vec::new());
    };
    let mut records = vec![unfence(broker, epoch)];
    records.extend(arrive(context.image(), context.config, broker));
    context.apply(&records)?;
    Ok(records)
}

fn begin_stop(context: &mut Context<'_>, broker: i32) -> Result<Vec<MetadataRecord>, Refusal> {
    let Some(epoch) = context.image().broker(broker).map(|broker| broker.epoch) else {
        return Ok(Vec::new());
    };
    let mut records = vec![MetadataRecord::from(BrokerRegistrationChangeRecord {
        broker_id: broker,
        broker_epoch: epoch,
        in_controlled_shutdown: 1,
        ..BrokerRegistrationChangeRecord::default()
    })];
    records.extend(leave(context.image(), context.config, broker));
    context.apply(&records)?;
    Ok(records)
}

/// Replicas in directories that have failed are in sync no more; the registration names the others.
pub(super) fn fail_directories(
    context: &mut Context<'_>,
    id: i32,
    failed: &[Uuid],
) -> Result<Vec<MetadataRecord>, Refusal> {
    let image = context.image();
    let Some(broker) = image.broker(id) else { return Ok(Vec::new()) };
    let is_news = broker.log_dirs.iter().any(|directory| failed.contains(directory));
    if !is_news || image.feature(METADATA_VERSION) < LEVEL_DIRECTORIES {
        return Ok(Vec::new());
    }
    let online: Vec<Uuid> = broker.log_dirs.iter().copied().filter(|it| !failed.contains(it)).collect();
    let mut records = leave_where(image, context.config, id, |_, _, partition| {
        partition.isr.contains(&id) && failed.contains(&partition.directory_of(id))
    });
    // A change that names no directory says nothing of them: with none left the broker is about to end.
    if !online.is_empty() {
        records.push(MetadataRecord::from(BrokerRegistrationChangeRecord {
            broker_id: id,
            broker_epoch: broker.epoch,
            log_dirs: online,
            ..BrokerRegistrationChangeRecord::default()
        }));
    }
    context.apply(&records)?;
    Ok(records)
}

/// Notes which directories take nothing new.
fn cordon_directories(
    context: &mut Context<'_>,
    request: &BrokerHeartbeatRequest,
) -> Result<Vec<MetadataRecord>, Refusal> {
    use crate::metadata::record::LEVEL_CORDONED_DIRECTORIES;
    let image = context.image();
    let (Some(cordoned), Some(broker)) = (&request.cordoned_log_dirs, image.broker(request.broker_id)) else {
        return Ok(Vec::new());
    };
    let known = broker.cordoned_log_dirs.clone().unwrap_or_default();
    if *cordoned == known || image.feature(METADATA_VERSION) < LEVEL_CORDONED_DIRECTORIES {
        return Ok(Vec::new());
    }
    let records = vec![MetadataRecord::from(BrokerRegistrationChangeRecord {
        broker_id: request.broker_id,
        broker_epoch: broker.epoch,
        cordoned_log_dirs: Some(cordoned.clone()),
        ..BrokerRegistrationChangeRecord::default()
    })];
    context.apply(&records)?;
    Ok(records)
}

/// What is due by now: silent brokers are fenced one after the other, each in sight of the next; then leaders are
/// looked at, if their time has come.
pub(super) fn tick(context: &mut Context<'_>) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for broker in context.sessions.expired(context.builder.image(), context.elapsed_ms) {
        records.append(&mut fence_broker(context, broker).unwrap_or_default());
    }
    records.append(&mut look_at_leaders(context));
    records
}

fn look_at_leaders(context: &mut Context<'_>) -> Vec<MetadataRecord> {
    let settings = &context.config.cluster;
    let unclean_ms = settings.unclean_election_interval_ms;
    let interval_ms =
        if settings.rebalance_enable { settings.rebalance_interval_ms.min(unclean_ms) } else { unclean_ms };
    let next_ms = context.elapsed_ms.saturating_add(interval_ms.max(1));
    match context.sessions.next_leaders_ms {
        Some(due_ms) if due_ms <= context.elapsed_ms => {}
        Some(_) => return Vec::new(),
        None => {
            context.sessions.next_leaders_ms = Some(next_ms);
            return Vec::new();
        }
    }
    context.sessions.next_leaders_ms = Some(next_ms);
    let mut records = elect_uncleanly(context.image(), context.config);
    if context.apply(&records).is_err() {
        return Vec::new();
    }
    if settings.rebalance_enable {
        let (mut balanced, has_more) = balance(context.image(), context.config);
        if context.apply(&balanced).is_ok() {
            records.append(&mut balanced);
        }
        if has_more {
            context.sessions.next_leaders_ms = Some(context.elapsed_ms);
        }
    }
    records
}

/// A broker's connection was reset and nobody answers at its port: it is fenced at once, not after its session.
pub(super) fn connection_lost(context: &mut Context<'_>, broker: i32) -> Decision<()> {
    if context.sessions.is_resident(broker) {
        return Decision { records: Vec::new(), answer: () };
    }
    context.sessions.lose(broker);
    let is_serving = context.image().broker(broker).is_some_and(|broker| !broker.fenced);
    let records = if is_serving { fence_broker(context, broker).unwrap_or_default() } else { Vec::new() };
    Decision { records, answer: () }
}

impl Answer for BrokerHeartbeatResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        self.error_code = refusal.code.code();
    }

    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}
