//! `klamm configs`: read and change the configurations a cluster keeps, and say where each value comes from.
//!
//! `entity.rs` is what has configurations; `quotas.rs` asks for those of clients and users, which Kafka keeps
//! behind an API of their own.

mod entity;
mod quotas;

use std::collections::BTreeMap;

use clap::Subcommand;
use serde::Serialize;

use crate::cli::args::{Connection, Target};
use crate::cli::directory::Directory;
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::{Output, Table};
use crate::cli::partitions::no_such_topic;
use crate::cli::queries;
use crate::client::{BrokerError, Cluster};
use crate::config::suggest;
use crate::config::table::KEYS;
use crate::protocol::ErrorCode;
use crate::protocol::messages::describe_configs_request::DescribeConfigsResource;
use crate::protocol::messages::describe_configs_response::DescribeConfigsResult;
use crate::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

pub use entity::{Entity, Home};

/// Read and change configurations.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm configs get topic:orders
  klamm configs set topic:orders retention.ms=86400000
  klamm configs unset topic:orders retention.ms")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Get(GetArgs),
    Set(SetArgs),
    Unset(UnsetArgs),
}

/// Show configurations and where each value comes from.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm configs get topic:orders
  klamm configs get topic:orders retention.ms segment.bytes --json
  klamm configs get broker:1 --all
  klamm configs get topic:orders -d /var/lib/klamm")]
struct GetArgs {
    /// topic:NAME, broker:ID, broker (all brokers), group:NAME, client:NAME, user:NAME,
    /// client-metrics:NAME or broker-logger:ID
    #[arg(value_name = "ENTITY")]
    entity: Entity,

    /// Keys to show [default: those that are set]
    #[arg(value_name = "KEY")]
    keys: Vec<String>,

    /// Also keys that nobody has set
    #[arg(short, long)]
    all: bool,

    /// One JSON object a line, with synonyms and documentation
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Set configurations while brokers run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm configs set topic:orders retention.ms=86400000 segment.bytes=104857600
  klamm configs set topic:orders cleanup.policy+=compact
  klamm configs set broker log.retention.ms=86400000
  klamm configs set user:alice producer_byte_rate=1048576")]
struct SetArgs {
    /// topic:NAME, broker:ID, broker (all brokers), group:NAME, client:NAME, user:NAME,
    /// client-metrics:NAME or broker-logger:ID
    #[arg(value_name = "ENTITY")]
    entity: Entity,

    /// KEY=VALUE sets, KEY+=VALUE adds to a list, KEY-=VALUE takes from a list
    #[arg(required = true, value_name = "KEY=VALUE")]
    changes: Vec<Change>,

    #[command(flatten)]
    how: How,
}

/// How a change is made and told.
#[derive(Debug, clap::Args)]
struct How {
    /// Only ask the cluster whether it would
    #[arg(long)]
    validate_only: bool,

    /// One JSON object for each change: entity, key, operation, value, applied
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Remove configurations, so that what stands behind them holds again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm configs unset topic:orders retention.ms
  klamm configs unset broker log.retention.ms --validate-only")]
struct UnsetArgs {
    /// topic:NAME, broker:ID, broker (all brokers), group:NAME, client:NAME, user:NAME,
    /// client-metrics:NAME or broker-logger:ID
    #[arg(value_name = "ENTITY")]
    entity: Entity,

    /// Keys to remove
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,

    #[command(flatten)]
    how: How,
}

/// What to do with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    key: String,
    operation: Operation,
    value: Option<String>,
}

/// `IncrementalAlterConfigs`' operations, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Set = 0,
    Delete = 1,
    Append = 2,
    Subtract = 3,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Delete => "unset",
            Self::Append => "append",
            Self::Subtract => "subtract",
        }
    }
}

impl std::str::FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "KEY=VALUE is expected, or KEY+=VALUE, KEY-=VALUE for lists".to_owned();
        let (key, value) = text.split_once('=').ok_or_else(expected)?;
        let (key, operation) = match (key.strip_suffix('+'), key.strip_suffix('-')) {
            (Some(key), _) => (key, Operation::Append),
            (_, Some(key)) => (key, Operation::Subtract),
            (None, None) => (key, Operation::Set),
        };
        let key = key.trim();
        if key.is_empty() {
            return Err(expected());
        }
        Ok(Self { key: key.to_owned(), operation, value: Some(value.to_owned()) })
    }
}

/// One value and where it comes from.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigView {
    /// The key.
    pub key: String,
    /// The value; `None` where there is none, or it is not shown.
    pub value: Option<String>,
    /// Kafka's name of where it comes from.
    pub source: &'static str,
    /// Whether it can only be set before a broker starts.
    pub read_only: bool,
    /// Whether it is never shown.
    pub sensitive: bool,
    /// Other places that set it, in the order in which they count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub synonyms: Vec<SynonymView>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documentation: Option<String>,
}

/// One place that sets a value.
#[derive(Debug, Clone, Serialize)]
pub struct SynonymView {
    /// The key it is set by.
    pub key: String,
    /// The value there.
    pub value: Option<String>,
    /// Kafka's name of where it is set.
    pub source: &'static str,
}

/// Runs the action.
///
/// # Errors
/// Where the cluster or the directory cannot be asked, or refuses.
pub fn run(args: Args, output: &mut Output) -> anyhow::Result<Exit> {
    match args.action {
        Action::Get(args) => get(&args, output),
        Action::Set(SetArgs { entity, changes, how }) => change(&entity, &changes, &how, output),
        Action::Unset(UnsetArgs { entity, keys, how }) => {
            let removals =
                keys.into_iter().map(|key| Change { key, operation: Operation::Delete, value: None });
            change(&entity, &removals.collect::<Vec<_>>(), &how, output)
        }
    }
}

fn get(args: &GetArgs, output: &mut Output) -> anyhow::Result<Exit> {
    match args.connection.target()? {
        Target::Dir(dir) => {
            let configs = Directory::open(&dir)?.configs(&args.entity)?;
            print(args, configs, output)
        }
        Target::Cluster(_) => block_on(0, async {
            let cluster = args.connection.cluster(output).await?;
            let configs = match args.entity.home() {
                Home::Quotas(kind) => quotas::get(&cluster, kind, args.entity.name()).await?,
                Home::Configs(_) => ask(&cluster, args).await?,
            };
            print(args, configs, output)
        }),
    }
}

async fn ask(cluster: &Cluster, args: &GetArgs) -> anyhow::Result<Vec<ConfigView>> {
    let Home::Configs(resource_type) = args.entity.home() else { return Ok(Vec::new()) };
    let keys = args.keys.iter().map(|key| key.as_str().into()).collect::<Vec<_>>();
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name: args.entity.name().unwrap_or_default().into(),
        configuration_keys: (!keys.is_empty()).then_some(keys),
        ..Default::default()
    };
    let results = queries::configs(cluster, args.entity.broker(), vec![resource], args.json).await?;
    let mut views = Vec::new();
    for result in &results {
        let about = || args.entity.to_string();
        if ErrorCode::from_wire(result.error_code) == ErrorCode::UnknownTopicOrPartition {
            anyhow::bail!(no_such_topic(&result.resource_name));
        }
        BrokerError::check(result.error_code, about, result.error_message.as_deref())?;
        views.extend(views_of(result));
    }
    Ok(views)
}

fn views_of(result: &DescribeConfigsResult) -> impl Iterator<Item = ConfigView> + '_ {
    result.configs.iter().map(|config| {
        let synonyms = config.synonyms.iter().map(|synonym| SynonymView {
            key: synonym.name.to_string(),
            value: synonym.value.as_ref().map(ToString::to_string),
            source: source_name(synonym.source),
        });
        ConfigView {
            key: config.name.to_string(),
            value: config.value.as_ref().map(ToString::to_string),
            source: source_name(config.config_source),
            read_only: config.read_only,
            sensitive: config.is_sensitive,
            synonyms: synonyms.collect(),
            documentation: config
                .documentation
                .as_ref()
                .map(ToString::to_string)
                .filter(|text| !text.is_empty()),
        }
    })
}

/// Kafka's names of where values come from.
fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "DYNAMIC_CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

/// The same in few words, for people.
fn source_words(source: &'static str) -> &'static str {
    match source {
        "DYNAMIC_TOPIC_CONFIG" => "this topic",
        "DYNAMIC_BROKER_CONFIG" => "this broker",
        "DYNAMIC_DEFAULT_BROKER_CONFIG" => "all brokers",
        "STATIC_BROKER_CONFIG" => "the broker's file",
        "DEFAULT_CONFIG" => "default",
        "DYNAMIC_BROKER_LOGGER_CONFIG" => "this logger",
        "DYNAMIC_CLIENT_METRICS_CONFIG" => "this subscription",
        "DYNAMIC_GROUP_CONFIG" => "this group",
        "QUOTA" => "quota",
        _ => "unknown",
    }
}

fn print(args: &GetArgs, mut configs: Vec<ConfigView>, output: &mut Output) -> anyhow::Result<Exit> {
    let mut failed = false;
    if args.keys.is_empty() {
        configs.retain(|config| args.all || config.source != "DEFAULT_CONFIG");
    } else {
        configs.retain(|config| args.keys.contains(&config.key));
        for key in &args.keys {
            if !configs.iter().any(|config| config.key == *key) {
                failed = true;
                let known = KEYS.iter().map(|known| known.name);
                let nearest = suggest(key, known).map(|near| format!("; did you mean {near}?"));
                output.error(format_args!("{} has no key {key}{}", args.entity, nearest.unwrap_or_default()));
            }
        }
    }
    configs.sort_by(|a, b| a.key.cmp(&b.key));
    let mut table = Table::new(["KEY", "VALUE", "FROM"]);
    for config in &configs {
        if args.json {
            let mut object = BTreeMap::new();
            object.insert("entity", serde_json::Value::from(args.entity.to_string()));
            let mut object = serde_json::to_value(object)?;
            if let (Some(object), serde_json::Value::Object(fields)) =
                (object.as_object_mut(), serde_json::to_value(config)?)
            {
                object.extend(fields);
            }
            output.json(&object)?;
        } else {
            let hidden = if config.sensitive { "(hidden)" } else { "" };
            let value = config.value.clone().unwrap_or_else(|| hidden.to_owned());
            table.row([config.key.clone(), value, source_words(config.source).to_owned()]);
        }
    }
    output.table(&table)?;
    if configs.is_empty() && !args.json && !failed {
        output.say(format_args!("{}: nothing is set; --all shows the defaults", args.entity));
    }
    Ok(Exit::failed_if(failed))
}

fn change(entity: &Entity, changes: &[Change], how: &How, output: &mut Output) -> anyhow::Result<Exit> {
    for (index, change) in changes.iter().enumerate() {
        if changes[..index].iter().any(|other| other.key == change.key) {
            return Err(usage(format!("{} is given twice", change.key)));
        }
    }
    let validate_only = how.validate_only;
    how.connection.for_changing(output, async |cluster, output| {
        match entity.home() {
            Home::Quotas(kind) => quotas::change(&cluster, kind, entity, changes, validate_only).await?,
            Home::Configs(resource_type) => {
                alter(&cluster, entity, resource_type, changes, validate_only).await?;
            }
        }
        if how.json {
            for change in changes {
                output.json(&serde_json::json!({
                    "entity": entity.to_string(),
                    "key": change.key,
                    "operation": change.operation.name(),
                    "value": change.value,
                    "applied": !validate_only,
                }))?;
            }
            return Ok(Exit::Done);
        }
        let verb = if validate_only { "would take" } else { "took" };
        output.say(format_args!("{entity} {verb} {} change(s)", changes.len()));
        Ok(Exit::Done)
    })
}

async fn alter(
    cluster: &Cluster,
    entity: &Entity,
    resource_type: i8,
    changes: &[Change],
    validate_only: bool,
) -> anyhow::Result<()> {
    let configs = changes.iter().map(|change| AlterableConfig {
        name: change.key.as_str().into(),
        config_operation: change.operation as i8,
        value: change.value.as_deref().map(Into::into),
        ..Default::default()
    });
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type,
            resource_name: entity.name().unwrap_or_default().into(),
            configs: configs.collect(),
            ..Default::default()
        }],
        validate_only,
        ..Default::default()
    };
    // A broker checks its own settings itself: only it knows what stands in its file.
    let answer = match entity.broker() {
        Some(broker) => cluster.send(broker, &request).await?,
        None => cluster.controller(&request).await?,
    };
    for response in &answer.responses {
        BrokerError::check(response.error_code, || entity.to_string(), response.error_message.as_deref())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_set_append_and_subtract() {
        let change = |text: &str| text.parse::<Change>().map(|c| (c.key, c.operation, c.value.unwrap()));
        assert_eq!(change("a=b=c"), Ok(("a".into(), Operation::Set, "b=c".into())));
        assert_eq!(change("a+=b"), Ok(("a".into(), Operation::Append, "b".into())));
        assert_eq!(change("a-=b"), Ok(("a".into(), Operation::Subtract, "b".into())));
        assert_eq!(change("a="), Ok(("a".into(), Operation::Set, String::new())));
        assert!(change("a").is_err());
        assert!(change("=b").is_err());
    }
}
