//! AlterConfigs and IncrementalAlterConfigs, decided: for topics, brokers, all brokers, groups and
//! client-metrics subscriptions. A resource's changes count together or not at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{BrokerConfig, ConfigKey, Kind, Scope, TopicConfig, Update, Value, suggest, table};
use crate::metadata::{ConfigResource, ConfigResourceType, MetadataRecord};
use crate::protocol::messages::alter_configs_request::{self, AlterConfigsRequest};
use crate::protocol::messages::alter_configs_response::{self, AlterConfigsResponse};
use crate::protocol::messages::clear_elr_record::ClearElrRecord;
use crate::protocol::messages::config_record::ConfigRecord;
use crate::protocol::messages::incremental_alter_configs_request::{self, IncrementalAlterConfigsRequest};
use crate::protocol::messages::incremental_alter_configs_response::{self, IncrementalAlterConfigsResponse};
use crate::protocol::{ErrorCode, Str};

use super::decision::{Answer, Context, Decision, Refusal, SETTINGS_BYTES_MAX, check_text};

const MIN_ISR: &str = "min.insync.replicas";
/// The sizes of Kafka's pools that may change while it runs.
const THREAD_POOLS: &[&str] = &[
    "background.threads",
    "log.cleaner.threads",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
];
const ELR_FEATURE: &str = "eligible.leader.replicas.version";

/// What becomes of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

/// One change that was asked for.
struct Change<'a> {
    name: &'a str,
    operation: Operation,
    value: Option<&'a str>,
}

type Settings = BTreeMap<String, String>;

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

/// One resource of either request.
trait Asked {
    fn resource(&self) -> ConfigResource;
    fn values(&self) -> impl Iterator<Item = Option<&Str>>;
    /// What is asked of it, `current` being its settings so far.
    fn changes<'a>(&'a self, current: &'a Settings) -> Result<Vec<Change<'a>>, Refusal>;
}

impl Asked for incremental_alter_configs_request::AlterConfigsResource {
    fn resource(&self) -> ConfigResource {
        resource(self.resource_type, &self.resource_name)
    }

    fn values(&self) -> impl Iterator<Item = Option<&Str>> {
        self.configs.iter().map(|config| config.value.as_ref())
    }

    fn changes<'a>(&'a self, _current: &'a Settings) -> Result<Vec<Change<'a>>, Refusal> {
        let change = |config: &'a incremental_alter_configs_request::AlterableConfig| {
            let operation = operation(config.config_operation)?;
            Ok(Change { name: &config.name, operation, value: config.value.as_deref() })
        };
        self.configs.iter().map(change).collect()
    }
}

impl Asked for alter_configs_request::AlterConfigsResource {
    fn resource(&self) -> ConfigResource {
        resource(self.resource_type, &self.resource_name)
    }

    fn values(&self) -> impl Iterator<Item = Option<&Str>> {
        self.configs.iter().map(|config| config.value.as_ref())
    }

    /// What it does not name is removed.
    fn changes<'a>(&'a self, current: &'a Settings) -> Result<Vec<Change<'a>>, Refusal> {
        let named: BTreeSet<&str> = self.configs.iter().map(|config| config.name.as_str()).collect();
        let removed = current.keys().filter(|name| !named.contains(name.as_str()));
        let set = self.configs.iter().map(|config| Change {
            name: &config.name,
            operation: Operation::Set,
            value: config.value.as_deref(),
        });
        Ok(set
            .chain(removed.map(|name| Change { name, operation: Operation::Delete, value: None }))
            .collect())
    }
}

/// Decides on each resource of a request: the records, and error code and message of each.
fn alter_each<A: Asked>(
    context: &mut Context<'_>,
    asked: &[A],
    validate_only: bool,
) -> (Vec<MetadataRecord>, Vec<(i16, Option<Str>)>) {
    let mut records = Vec::new();
    let mut seen = BTreeSet::new();
    let too_large = check_size(asked.iter().flat_map(Asked::values)).err();
    let outcomes = asked.iter().map(|asked| {
        let resource = asked.resource();
        let current = context.image().configs(&resource);
        let outcome = once(&mut seen, &resource)
            .and_then(|()| too_large.clone().map_or(Ok(()), Err))
            .and_then(|()| asked.changes(&current))
            .and_then(|changes| change(context, &resource, &changes, validate_only));
        take(outcome, &mut records)
    });
    let outcomes = outcomes.collect();
    (records, outcomes)
}

/// Decides on a whole IncrementalAlterConfigs request.
pub(super) fn alter_incrementally(
    context: &mut Context<'_>,
    request: &IncrementalAlterConfigsRequest,
) -> Decision<IncrementalAlterConfigsResponse> {
    let (records, outcomes) = alter_each(context, &request.resources, request.validate_only);
    let response = |(asked, (error_code, error_message)): (
        &incremental_alter_configs_request::AlterConfigsResource,
        _,
    )| {
        incremental_alter_configs_response::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name.clone(),
            ..Default::default()
        }
    };
    let responses = request.resources.iter().zip(outcomes).map(response).collect();
    let answer = IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() };
    Decision { records, answer }
}

/// Decides on a whole AlterConfigs request.
pub(super) fn alter(
    context: &mut Context<'_>,
    request: &AlterConfigsRequest,
) -> Decision<AlterConfigsResponse> {
    let (records, outcomes) = alter_each(context, &request.resources, request.validate_only);
    let response =
        |(asked, (error_code, error_message)): (&alter_configs_request::AlterConfigsResource, _)| {
            alter_configs_response::AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: asked.resource_type,
                resource_name: asked.resource_name.clone(),
                ..Default::default()
            }
        };
    let responses = request.resources.iter().zip(outcomes).map(response).collect();
    Decision { records, answer: AlterConfigsResponse { responses, ..AlterConfigsResponse::default() } }
}

fn resource(type_id: i8, name: &str) -> ConfigResource {
    ConfigResource { type_id, name: name.to_owned() }
}

fn operation(code: i8) -> Result<Operation, Refusal> {
    match code {
        0 => Ok(Operation::Set),
        1 => Ok(Operation::Delete),
        2 => Ok(Operation::Append),
        3 => Ok(Operation::Subtract),
        other => Err(invalid(format!("Unknown operation type {other}"))),
    }
}

/// Everything that a request changes stands in one batch.
fn check_size<'a>(values: impl Iterator<Item = Option<&'a Str>>) -> Result<(), Refusal> {
    let bytes: usize = values.map(|value| value.map_or(0, |value| value.len())).sum();
    if bytes <= SETTINGS_BYTES_MAX {
        return Ok(());
    }
    let message = format!("The request has {bytes} bytes of settings; {SETTINGS_BYTES_MAX} are the most.");
    Err(Refusal::new(ErrorCode::PolicyViolation, message))
}

fn once(seen: &mut BTreeSet<ConfigResource>, resource: &ConfigResource) -> Result<(), Refusal> {
    if seen.insert(resource.clone()) {
        return Ok(());
    }
    Err(invalid("Each resource must appear at most once."))
}

fn take(
    outcome: Result<Vec<MetadataRecord>, Refusal>,
    records: &mut Vec<MetadataRecord>,
) -> (i16, Option<Str>) {
    match outcome {
        Ok(mut made) => {
            records.append(&mut made);
            (0, None)
        }
        Err(refusal) => refusal.fields(),
    }
}

/// Decides on the changes of one resource.
fn change(
    context: &mut Context<'_>,
    resource: &ConfigResource,
    changes: &[Change<'_>],
    validate_only: bool,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let kind = check_resource(context, resource)?;
    let scope = match kind {
        ConfigResourceType::Topic => Scope::Topic,
        ConfigResourceType::Broker => Scope::Broker,
        ConfigResourceType::Group => Scope::Group,
        ConfigResourceType::ClientMetrics => Scope::ClientMetrics,
        ConfigResourceType::BrokerLogger => {
            return Err(invalid("The levels of loggers cannot be changed while klamm runs."));
        }
    };
    let before = context.image().configs(resource);
    let mut after = Settings::clone(&before);
    let mut named = BTreeSet::new();
    for change in changes {
        if !named.insert(change.name) {
            return Err(invalid(format!("Error due to duplicate config keys: {}", change.name)));
        }
        apply_change(&mut after, scope, change)?;
    }
    check_settings(context, kind, resource, &named, &after)?;
    check_text("The resource's name", &resource.name)?;
    for (name, value) in &after {
        check_text(name, value)?;
    }
    let records = records(context, kind, resource, &before, &after);
    if validate_only {
        return Ok(Vec::new());
    }
    for record in &records {
        context.builder.apply(record.clone())?;
    }
    Ok(records)
}

/// The resource is of a known kind, and there.
fn check_resource(context: &Context<'_>, resource: &ConfigResource) -> Result<ConfigResourceType, Refusal> {
    let kind =
        resource.kind().ok_or_else(|| invalid(format!("Unexpected resource type {}.", resource.type_id)))?;
    let name = resource.name.as_str();
    match kind {
        ConfigResourceType::Topic if name.is_empty() => {
            Err(invalid("Default topic resources are not allowed."))
        }
        ConfigResourceType::Topic if context.image().topic(name).is_none() => Err(Refusal::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("The topic '{name}' does not exist."),
        )),
        ConfigResourceType::Group if name.is_empty() => {
            Err(invalid("Default group resources are not allowed."))
        }
        ConfigResourceType::ClientMetrics if name.is_empty() => {
            Err(invalid("Default client metrics resources are not allowed."))
        }
        ConfigResourceType::Broker | ConfigResourceType::BrokerLogger if !name.is_empty() => {
            let id: i32 = name
                .parse()
                .map_err(|_| invalid(format!("Invalid broker name {name}: an id is expected.")))?;
            // Each broker has taken what concerns it alone.
            let is_known = id == context.node_id || context.image().broker(id).is_some();
            if is_known { Ok(kind) } else { Err(unknown_broker(id)) }
        }
        _ => Ok(kind),
    }
}

fn unknown_broker(id: i32) -> Refusal {
    Refusal::new(ErrorCode::BrokerIdNotRegistered, format!("Broker {id} is not registered."))
}

/// One change, made to the settings as they would be.
fn apply_change(after: &mut Settings, scope: Scope, change: &Change<'_>) -> Result<(), Refusal> {
    if change.operation == Operation::Delete {
        after.remove(change.name);
        return Ok(());
    }
    let name = change.name;
    let value = change.value.ok_or_else(|| invalid(format!("Null value not supported for : {name}")))?;
    let key = find_key(scope, name)?;
    if change.operation == Operation::Set {
        after.insert(name.to_owned(), value.to_owned());
        return Ok(());
    }
    if key.kind != Kind::List {
        let word = if change.operation == Operation::Append { "APPEND" } else { "SUBTRACT" };
        return Err(Refusal::new(
            ErrorCode::InvalidConfig,
            format!("Can't {word} to key {name} because its type is not LIST."),
        ));
    }
    let current = after.get(name).cloned().or_else(|| key.default_value().map(|value| value.to_string()));
    let mut items = list(key, current.as_deref().unwrap_or_default())?;
    let operands = list(key, value)?;
    match change.operation {
        Operation::Append => {
            for item in operands {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
        }
        _ => items.retain(|item| !operands.contains(item)),
    }
    after.insert(name.to_owned(), items.join(","));
    Ok(())
}

fn list(key: &ConfigKey, text: &str) -> Result<Vec<String>, Refusal> {
    match key.parse(text)? {
        Value::List(items) => Ok(items),
        other => Ok(vec![other.to_string()]),
    }
}

fn find_key(scope: Scope, name: &str) -> Result<&'static ConfigKey, Refusal> {
    table::find(scope, name).ok_or_else(|| {
        let hint = suggest(name, table::keys(scope).map(|key| key.name));
        let hint = hint.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let (code, word) = match scope {
            Scope::Topic => (ErrorCode::InvalidConfig, "topic"),
            Scope::Broker => (ErrorCode::InvalidRequest, "broker"),
            Scope::Group => (ErrorCode::InvalidConfig, "group"),
            Scope::ClientMetrics => (ErrorCode::InvalidConfig, "client metrics"),
        };
        Refusal::new(code, format!("Unknown {word} config name: {name}{hint}"))
    })
}

/// Whether the settings that would result may stand, `named` being the keys that change.
fn check_settings(
    context: &Context<'_>,
    kind: ConfigResourceType,
    resource: &ConfigResource,
    named: &BTreeSet<&str>,
    after: &Settings,
) -> Result<(), Refusal> {
    match kind {
        ConfigResourceType::Topic => {
            // What was there before may come from elsewhere; only what changes is checked for being built.
            let changed = after.iter().filter(|(name, _)| named.contains(name.as_str()));
            let changed: Settings = changed.map(|(name, value)| (name.clone(), value.clone())).collect();
            TopicConfig::check(context.config, &changed)?;
            Ok(TopicConfig::resolve(context.config, after).map(|_| ())?)
        }
        ConfigResourceType::Broker => check_broker_settings(context, resource, named, after),
        ConfigResourceType::Group => {
            check_plain(Scope::Group, named, after)?;
            Ok(context.config.groups.check_group(after)?)
        }
        ConfigResourceType::ClientMetrics | ConfigResourceType::BrokerLogger => {
            check_plain(Scope::ClientMetrics, named, after)
        }
    }
}

fn check_plain(scope: Scope, named: &BTreeSet<&str>, after: &Settings) -> Result<(), Refusal> {
    for (name, value) in after.iter().filter(|(name, _)| named.contains(name.as_str())) {
        find_key(scope, name)?.check_built(value)?;
    }
    Ok(())
}

fn check_broker_settings(
    context: &Context<'_>,
    resource: &ConfigResource,
    named: &BTreeSet<&str>,
    after: &Settings,
) -> Result<(), Refusal> {
    let is_default = resource.name.is_empty();
    for name in named {
        let Some(key) = table::find(Scope::Broker, name) else { continue };
        if !key.is_dynamic() {
            return Err(invalid(format!("Cannot update these configs dynamically: {name}")));
        }
        if is_default && key.update == Update::PerBroker {
            return Err(invalid(format!(
                "Cannot update these configs at default cluster level, must update at a broker level: {name}"
            )));
        }
        if let Some(value) = after.get(*name) {
            key.check_built(value).map_err(|error| invalid(error.to_string()))?;
        }
    }
    check_elr(context, is_default, named, after)?;
    let other = |resource| Settings::clone(&context.image().configs(&resource));
    let (cluster, broker) = if is_default {
        (after.clone(), other(ConfigResource::broker(context.node_id)))
    } else {
        (other(ConfigResource::cluster_default()), after.clone())
    };
    let whole = context.static_config.with_dynamic(&cluster, &broker);
    let whole = whole.map_err(|error| invalid(error.to_string()))?;
    named.iter().try_for_each(|name| check_thread_count(name, context.config, &whole))
}

/// Kafka's pools of threads grow to double and shrink to half at most, at a time.
fn check_thread_count(name: &str, before: &BrokerConfig, after: &BrokerConfig) -> Result<(), Refusal> {
    if !THREAD_POOLS.contains(&name) {
        return Ok(());
    }
    let number = |config: &BrokerConfig| config.text(name).and_then(|text| text.parse::<i64>().ok());
    let (Some(current), Some(wanted)) = (number(before), number(after)) else { return Ok(()) };
    let refuse = |rule: &str| {
        Err(invalid(format!("{name}={wanted} is refused: it should be {rule} the current value {current}")))
    };
    if wanted < 1 && name == "log.cleaner.threads" {
        return Err(invalid(format!("{name}={wanted} is refused: it should be at least 1")));
    }
    if wanted < current / 2 {
        return refuse("at least half");
    }
    if wanted > current * 2 {
        return refuse("no more than double");
    }
    Ok(())
}

/// With eligible leader replicas the least in-sync replicas are one number for the whole cluster.
fn check_elr(
    context: &Context<'_>,
    is_default: bool,
    named: &BTreeSet<&str>,
    after: &Settings,
) -> Result<(), Refusal> {
    if !named.contains(MIN_ISR) || context.image().feature(ELR_FEATURE) == 0 {
        return Ok(());
    }
    let refuse = |message: &str| Err(Refusal::new(ErrorCode::InvalidConfig, message));
    match (is_default, after.contains_key(MIN_ISR)) {
        (false, _) => refuse("Broker-level min.insync.replicas cannot be altered while ELR is enabled."),
        (true, false) => refuse("Cluster-level min.insync.replicas cannot be removed while ELR is enabled."),
        (true, true) => Ok(()),
    }
}

fn records(
    context: &Context<'_>,
    kind: ConfigResourceType,
    resource: &ConfigResource,
    before: &Settings,
    after: &Settings,
) -> Vec<MetadataRecord> {
    let record = |name: &str, value: Option<&str>| {
        MetadataRecord::from(ConfigRecord {
            resource_type: resource.type_id,
            resource_name: resource.name.as_str().into(),
            name: name.into(),
            value: value.map(Into::into),
            ..ConfigRecord::default()
        })
    };
    let set = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let mut records: Vec<MetadataRecord> = set
        .map(|(name, value)| record(name, Some(value)))
        .chain(gone.map(|name| record(name, None)))
        .collect();
    // Who may lead was worked out with the old number.
    let min_isr_changes = before.get(MIN_ISR) != after.get(MIN_ISR);
    if min_isr_changes && context.image().feature(ELR_FEATURE) > 0 {
        let topic_name =
            if kind == ConfigResourceType::Topic { resource.name.as_str().into() } else { Str::empty() };
        records.push(ClearElrRecord { topic_name, ..ClearElrRecord::default() }.into());
    }
    records
}

impl Answer for AlterConfigsResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        for response in self.responses.iter_mut().filter(|response| response.error_code == 0) {
            (response.error_code, response.error_message) = refusal.fields();
        }
    }

    fn codes(&self) -> Vec<i16> {
        self.responses.iter().map(|item| item.error_code).collect()
    }
}

impl Answer for IncrementalAlterConfigsResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        for response in self.responses.iter_mut().filter(|response| response.error_code == 0) {
            (response.error_code, response.error_message) = refusal.fields();
        }
    }

    fn codes(&self) -> Vec<i16> {
        self.responses.iter().map(|item| item.error_code).collect()
    }
}
