//! BrokerRegistration, ControllerRegistration and UnregisterBroker, decided.
//!
//! A registration begins a broker's life in the cluster: its epoch is the offset of the record, and it is closed to
//! clients at first. While the life before it may still go on, another one of the same id is refused. What
//! the new one cannot show to have closed cleanly, by the epoch in its `.kafka_cleanshutdown`, it is taken out
//! of every ISR and every list of eligible leaders for.

use std::collections::BTreeSet;

use crate::metadata::record::{LEVEL_CONTROLLER_REGISTRATION, LEVEL_DIRECTORIES, LEVEL_ELIGIBLE_REPLICAS};
use crate::metadata::{METADATA_VERSION, MetadataRecord};
use crate::protocol::ErrorCode;
use crate::protocol::messages::broker_registration_request::{BrokerRegistrationRequest, Feature};
use crate::protocol::messages::broker_registration_response::BrokerRegistrationResponse;
use crate::protocol::messages::controller_registration_request::ControllerRegistrationRequest;
use crate::protocol::messages::controller_registration_response::ControllerRegistrationResponse;
use crate::protocol::messages::register_broker_record::{
    BrokerEndpoint, BrokerFeature, RegisterBrokerRecord,
};
use crate::protocol::messages::register_controller_record::{
    ControllerEndpoint, ControllerFeature, RegisterControllerRecord,
};
use crate::protocol::messages::unregister_broker_record::UnregisterBrokerRecord;
use crate::protocol::messages::unregister_broker_request::UnregisterBrokerRequest;
use crate::protocol::messages::unregister_broker_response::UnregisterBrokerResponse;

use super::decision::{Answer, Context, Decision, Refusal};
use super::elections::{leave, leave_where, stop_uncleanly};

/// The security protocols that a listener may speak: PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL.
const SECURITY_PROTOCOLS: std::ops::RangeInclusive<i16> = 0..=3;

/// The most listeners, features or directories of one broker.
const ITEMS_MAX: usize = 1_000;
/// The longest name, host or path of a socket.
const NAME_BYTES_MAX: usize = 4_096;

/// Decides on the registration of a broker.
pub(super) fn register_broker(
    context: &mut Context<'_>,
    request: &BrokerRegistrationRequest,
) -> Decision<BrokerRegistrationResponse> {
    let mut answer = BrokerRegistrationResponse::default();
    let records = match register(context, request) {
        Ok((records, epoch)) => {
            answer.broker_epoch = epoch;
            records
        }
        Err(refusal) => {
            answer.refuse(&refusal);
            Vec::new()
        }
    };
    Decision { records, answer }
}

fn register(
    context: &mut Context<'_>,
    request: &BrokerRegistrationRequest,
) -> Result<(Vec<MetadataRecord>, i64), Refusal> {
    let id = request.broker_id;
    check(context, request)?;
    let existing = context.image().broker(id).cloned();
    let is_same = existing.as_ref().is_some_and(|it| it.incarnation_id == request.incarnation_id);
    let mut record = record_of(context, request);
    let mut records = Vec::new();
    if let (Some(existing), true) = (&existing, is_same) {
        // The answer to its registration was lost, or it has something new to say: its life goes on.
        (record.broker_epoch, record.fenced) = (existing.epoch, existing.fenced);
        record.in_controlled_shutdown = existing.in_controlled_shutdown;
    } else {
        let was_clean = existing.as_ref().is_some_and(|it| it.epoch == request.previous_broker_epoch);
        let tracks = context.image().feature(METADATA_VERSION) >= LEVEL_ELIGIBLE_REPLICAS;
        let end = if tracks && !was_clean { stop_uncleanly } else { leave };
        records = end(context.image(), context.config, id);
        record.broker_epoch = context.next_offset + records.len() as i64;
    }
    let epoch = record.broker_epoch;
    records.push(record.into());
    context.apply(&records)?;
    if is_same {
        context.sessions.touch(id, -1, context.elapsed_ms);
    } else {
        context.sessions.begin(id, context.elapsed_ms);
    }
    Ok((records, epoch))
}

fn check(context: &Context<'_>, request: &BrokerRegistrationRequest) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::InvalidRegistration, message));
    if *request.cluster_id != *context.cluster_id {
        return Err(Refusal::new(
            ErrorCode::InconsistentClusterId,
            format!("This is cluster {}, not {}.", context.cluster_id, request.cluster_id.as_str()),
        ));
    }
    if request.is_migrating_zk_broker {
        return invalid("There is no ZooKeeper to migrate from.".to_owned());
    }
    if let Some(other) =
        request.listeners.iter().find(|it| !SECURITY_PROTOCOLS.contains(&it.security_protocol))
    {
        return invalid(format!("{} is no security protocol.", other.security_protocol));
    }
    check_size(request)?;
    check_life(context, request)?;
    check_directories(context, request)?;
    check_features(context, &request.features)
}

/// A registration stands in the log for as long as its broker lives.
fn check_size(request: &BrokerRegistrationRequest) -> Result<(), Refusal> {
    let sizes = [request.listeners.len(), request.features.len(), request.log_dirs.len()];
    if let Some(size) = sizes.into_iter().find(|size| *size > ITEMS_MAX) {
        let message = format!(
            "A registration has {size} listeners, features or directories; {ITEMS_MAX} are the most."
        );
        return Err(Refusal::new(ErrorCode::InvalidRegistration, message));
    }
    let names = request.listeners.iter().flat_map(|listener| [&listener.name, &listener.host]);
    let names = names.chain(request.features.iter().map(|feature| &feature.name)).chain(&request.rack);
    match names.map(|name| name.len()).find(|len| *len > NAME_BYTES_MAX) {
        None => Ok(()),
        Some(len) => {
            let message = format!("A name of {len} bytes; {NAME_BYTES_MAX} are the most.");
            Err(Refusal::new(ErrorCode::InvalidRegistration, message))
        }
    }
}

/// Two processes with one id would each believe to be the broker.
fn check_life(context: &Context<'_>, request: &BrokerRegistrationRequest) -> Result<(), Refusal> {
    let id = request.broker_id;
    let Some(existing) = context.image().broker(id) else { return Ok(()) };
    let is_other = existing.incarnation_id != request.incarnation_id;
    let may_live = context.sessions.is_alive(id, context.elapsed_ms);
    if is_other && may_live && !existing.in_controlled_shutdown && !existing.fenced {
        return Err(Refusal::new(
            ErrorCode::DuplicateBrokerRegistration,
            format!("Broker {id} is registered and alive. If it was restarted, its session ends soon."),
        ));
    }
    Ok(())
}

fn check_directories(context: &Context<'_>, request: &BrokerRegistrationRequest) -> Result<(), Refusal> {
    let (id, image) = (request.broker_id, context.image());
    if image.feature(METADATA_VERSION) < LEVEL_DIRECTORIES {
        return Ok(());
    }
    let invalid = |message: String| Err(Refusal::new(ErrorCode::InvalidRegistration, message));
    if request.log_dirs.is_empty() {
        return invalid("The registration names no log directory.".to_owned());
    }
    let mut seen = BTreeSet::new();
    for directory in &request.log_dirs {
        if directory.is_reserved() || !seen.insert(directory) {
            return invalid(format!("{directory} is reserved, or named twice."));
        }
        let mut others = image.brokers().values().filter(|broker| broker.id != id);
        if let Some(other) = others.find(|broker| broker.log_dirs.contains(directory)) {
            return invalid(format!("Log directory {directory} belongs to broker {}.", other.id));
        }
    }
    Ok(())
}

/// A broker must understand what the cluster has finalised.
fn check_features(context: &Context<'_>, features: &[Feature]) -> Result<(), Refusal> {
    for (name, level) in context.image().features() {
        let range = features.iter().find(|feature| *feature.name == **name);
        let range =
            range.map_or(0..=0, |feature| feature.min_supported_version..=feature.max_supported_version);
        if !range.contains(level) {
            let message = format!("The cluster is at {name} {level}; the broker supports {range:?}.");
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
        }
    }
    Ok(())
}

fn record_of(context: &Context<'_>, request: &BrokerRegistrationRequest) -> RegisterBrokerRecord {
    let known = context.image().broker(request.broker_id);
    RegisterBrokerRecord {
        broker_id: request.broker_id,
        incarnation_id: request.incarnation_id,
        end_points: request
            .listeners
            .iter()
            .map(|listener| BrokerEndpoint {
                name: listener.name.clone(),
                host: listener.host.clone(),
                port: listener.port,
                security_protocol: listener.security_protocol,
                ..BrokerEndpoint::default()
            })
            .collect(),
        features: request
            .features
            .iter()
            .map(|feature| BrokerFeature {
                name: feature.name.clone(),
                min_supported_version: feature.min_supported_version,
                max_supported_version: feature.max_supported_version,
                ..BrokerFeature::default()
            })
            .collect(),
        rack: request.rack.clone(),
        fenced: true,
        log_dirs: request.log_dirs.clone(),
        cordoned_log_dirs: known.and_then(|broker| broker.cordoned_log_dirs.clone()),
        ..RegisterBrokerRecord::default()
    }
}

/// Decides on the registration of a controller.
pub(super) fn register_controller(
    context: &mut Context<'_>,
    request: &ControllerRegistrationRequest,
) -> Decision<ControllerRegistrationResponse> {
    let mut answer = ControllerRegistrationResponse::default();
    if context.image().feature(METADATA_VERSION) < LEVEL_CONTROLLER_REGISTRATION {
        answer.refuse(&Refusal::new(
            ErrorCode::UnsupportedVersion,
            "Controllers do not register at this metadata.version.",
        ));
        return Decision { records: Vec::new(), answer };
    }
    let record = RegisterControllerRecord {
        controller_id: request.controller_id,
        incarnation_id: request.incarnation_id,
        zk_migration_ready: request.zk_migration_ready,
        end_points: request
            .listeners
            .iter()
            .map(|listener| ControllerEndpoint {
                name: listener.name.clone(),
                host: listener.host.clone(),
                port: listener.port,
                security_protocol: listener.security_protocol,
                ..ControllerEndpoint::default()
            })
            .collect(),
        features: request
            .features
            .iter()
            .map(|feature| ControllerFeature {
                name: feature.name.clone(),
                min_supported_version: feature.min_supported_version,
                max_supported_version: feature.max_supported_version,
                ..ControllerFeature::default()
            })
            .collect(),
        ..RegisterControllerRecord::default()
    };
    let records = vec![MetadataRecord::from(record)];
    match context.apply(&records) {
        Ok(()) => Decision { records, answer },
        Err(refusal) => {
            answer.refuse(&refusal);
            Decision { records: Vec::new(), answer }
        }
    }
}

/// Decides that a broker is no part of the cluster any more.
pub(super) fn unregister_broker(
    context: &mut Context<'_>,
    request: &UnregisterBrokerRequest,
) -> Decision<UnregisterBrokerResponse> {
    let mut answer = UnregisterBrokerResponse::default();
    let records = unregister(context, request.broker_id).unwrap_or_else(|refusal| {
        answer.refuse(&refusal);
        Vec::new()
    });
    Decision { records, answer }
}

fn unregister(context: &mut Context<'_>, id: i32) -> Result<Vec<MetadataRecord>, Refusal> {
    let Some(broker_epoch) = context.image().broker(id).map(|broker| broker.epoch) else {
        let message = format!("Broker {id} is not registered.");
        return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    if context.sessions.is_resident(id) {
        let message = format!("Broker {id} is the controller itself, and runs.");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let mut records = leave_where(context.image(), context.config, id, |_, _, partition| {
        partition.isr.contains(&id) || partition.eligible_leader_replicas.contains(&id)
    });
    let record = UnregisterBrokerRecord { broker_id: id, broker_epoch, ..UnregisterBrokerRecord::default() };
    records.push(record.into());
    context.apply(&records)?;
    context.sessions.forget(id);
    Ok(records)
}

impl Answer for BrokerRegistrationResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        (self.error_code, self.broker_epoch) = (refusal.code.code(), -1);
    }

    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}

impl Answer for ControllerRegistrationResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        (self.error_code, self.error_message) = refusal.fields();
    }

    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}

impl Answer for UnregisterBrokerResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        (self.error_code, self.error_message) = refusal.fields();
    }

    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}
