//! `cluster features` and `cluster set-feature`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::cli::args::Connection;
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::{Output, Table};
use crate::client::{BrokerError, ClientError, Cluster};
use crate::protocol::messages::api_versions_request::ApiVersionsRequest;
use crate::protocol::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use crate::types::BrokerId;

/// How long the controller may take.
const TIMEOUT_MS: i32 = 30_000;
/// `UpdateFeatures`: what kind of change.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

/// Show features: the level that the cluster works at, and what its brokers can.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm cluster features
  klamm cluster features --json | jq 'select(.level < .max)'")]
pub(super) struct Args {
    /// One JSON object a line: feature, level, min, max, brokers
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// Raise or lower the level of a feature, for the whole cluster.
///
/// Level 0 turns a feature off. A lower level is refused unless '--downgrade' is given; what it would lose, unless
/// '--unsafe-downgrade' is.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  klamm cluster set-feature group.version=1             # asks the controller whether it would
  klamm cluster set-feature metadata.version=29 --execute
  klamm cluster set-feature share.version=0 --downgrade --execute")]
pub(super) struct SetArgs {
    /// Features and their levels
    #[arg(required = true, value_name = "FEATURE=LEVEL", value_parser = parse_level)]
    features: Vec<(String, i16)>,

    /// Allow lower levels
    #[arg(long)]
    downgrade: bool,

    /// Allow lower levels that lose metadata
    #[arg(long, conflicts_with = "downgrade")]
    unsafe_downgrade: bool,

    /// Do it; without this the controller is only asked whether it would
    #[arg(long)]
    execute: bool,

    /// One JSON object a line: feature, level, applied
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

fn parse_level(text: &str) -> Result<(String, i16), String> {
    let level = |level: &str| level.trim().parse().ok().filter(|level| *level >= 0);
    let parsed = text.split_once('=').and_then(|(name, given)| Some((name.trim(), level(given)?)));
    match parsed {
        Some((name, level)) if !name.is_empty() => Ok((name.to_owned(), level)),
        _ => Err("FEATURE=LEVEL is expected, like metadata.version=29".to_owned()),
    }
}

/// One feature.
#[derive(Debug, Clone, Default)]
struct Feature {
    /// What the cluster works at; 0 where it is off.
    level: i16,
    /// What each broker can, by broker.
    ranges: BTreeMap<i32, (i16, i16)>,
}

impl Feature {
    /// What all can.
    fn range(&self, brokers: &BTreeSet<i32>) -> Option<(i16, i16)> {
        let is_everywhere = brokers.iter().all(|broker| self.ranges.contains_key(broker));
        let least = self.ranges.values().map(|(least, _)| *least).max()?;
        let most = self.ranges.values().map(|(_, most)| *most).min()?;
        is_everywhere.then_some((least, most))
    }
}

async fn ask(cluster: &Cluster) -> Result<(BTreeMap<String, Feature>, BTreeSet<i32>), ClientError> {
    let request = ApiVersionsRequest {
        client_software_name: "klamm".into(),
        client_software_version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    };
    let mut features: BTreeMap<String, Feature> = BTreeMap::new();
    let brokers: BTreeSet<i32> = cluster.latest().brokers.keys().map(|id| id.0).collect();
    let mut newest = i64::MIN;
    for &broker in &brokers {
        let answer = cluster.send(BrokerId(broker), &request).await?;
        BrokerError::check(answer.error_code, || format!("broker {broker}"), None)?;
        for supported in &answer.supported_features {
            let feature = features.entry(supported.name.to_string()).or_default();
            feature.ranges.insert(broker, (supported.min_version, supported.max_version));
        }
        // Brokers learn of a change one after the other.
        if answer.finalized_features_epoch < newest {
            continue;
        }
        newest = answer.finalized_features_epoch;
        features.values_mut().for_each(|feature| feature.level = 0);
        for finalized in &answer.finalized_features {
            features.entry(finalized.name.to_string()).or_default().level = finalized.max_version_level;
        }
    }
    Ok((features, brokers))
}

/// Prints the features.
pub(super) fn show(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let (features, brokers) = ask(&cluster).await?;
        let mut table = Table::new(["FEATURE", ">LEVEL", ">MIN", ">MAX", "NOTE"]);
        for (name, feature) in &features {
            let range = feature.range(&brokers);
            if args.json {
                let ranges: BTreeMap<String, _> = feature
                    .ranges
                    .iter()
                    .map(|(id, (min, max))| (id.to_string(), json!({ "min": min, "max": max })))
                    .collect();
                output.json(&json!({
                    "feature": name,
                    "level": feature.level,
                    "min": range.map(|(min, _)| min),
                    "max": range.map(|(_, max)| max),
                    "brokers": ranges,
                }))?;
                continue;
            }
            let without = brokers.iter().filter(|broker| !feature.ranges.contains_key(broker));
            let without: Vec<String> = without.map(ToString::to_string).collect();
            let note = match without.is_empty() {
                true => String::new(),
                false => format!("not known to broker {}", without.join(",")),
            };
            let text = |level: Option<i16>| level.map(|level| level.to_string()).unwrap_or_default();
            table.row([
                name.clone(),
                feature.level.to_string(),
                text(range.map(|(min, _)| min)),
                text(range.map(|(_, max)| max)),
                note,
            ]);
        }
        output.table(&table)?;
        Ok(Exit::Done)
    })
}

/// Changes features, all or none of them.
pub(super) fn set(args: &SetArgs, output: &mut Output) -> anyhow::Result<Exit> {
    for (index, (name, _)) in args.features.iter().enumerate() {
        if args.features[..index].iter().any(|(other, _)| other == name) {
            return Err(usage(format!("{name} is given twice")));
        }
    }
    block_on(0, async {
        let cluster = args.connection.cluster(output).await?;
        let (known, _) = ask(&cluster).await?;
        for (name, _) in &args.features {
            if !known.contains_key(name) {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                anyhow::bail!("there is no feature {name}: the cluster knows {}", names.join(", "));
            }
        }
        let is_lower = |name: &String, level: i16| known.get(name).is_some_and(|one| level < one.level);
        let upgrade_type = |name: &String, level: i16| match (is_lower(name, level), args.unsafe_downgrade) {
            (true, true) => UNSAFE_DOWNGRADE,
            (true, false) if args.downgrade => SAFE_DOWNGRADE,
            _ => UPGRADE,
        };
        let updates = args.features.iter().map(|(name, level)| FeatureUpdateKey {
            feature: name.as_str().into(),
            max_version_level: *level,
            upgrade_type: upgrade_type(name, *level),
            ..Default::default()
        });
        let request = UpdateFeaturesRequest {
            timeout_ms: TIMEOUT_MS,
            feature_updates: updates.collect(),
            validate_only: !args.execute,
            ..Default::default()
        };
        let answer = cluster.controller(&request).await?;
        let names: Vec<&str> = args.features.iter().map(|(name, _)| name.as_str()).collect();
        BrokerError::check(answer.error_code, || names.join(", "), answer.error_message.as_deref())?;
        for result in &answer.results {
            let about = || result.feature.to_string();
            BrokerError::check(result.error_code, about, result.error_message.as_deref())?;
        }
        for (name, level) in &args.features {
            if args.json {
                output.json(&json!({ "feature": name, "level": level, "applied": args.execute }))?;
            } else {
                let before = known.get(name).map_or(0, |feature| feature.level);
                let verb = if args.execute { "is" } else { "would be" };
                output.say(format_args!("{name} {verb} at {level}, before {before}"));
            }
        }
        if !args.execute {
            output.say("nothing was changed; '--execute' does it");
        }
        Ok(Exit::Done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_brokers_can_is_the_range() {
        let mut feature = Feature { level: 1, ranges: [(1, (0, 3)), (2, (1, 2))].into() };
        assert_eq!(feature.range(&[1, 2].into()), Some((1, 2)));
        assert_eq!(feature.range(&[1, 2, 3].into()), None, "broker 3 does not know it");
        feature.ranges.clear();
        assert_eq!(feature.range(&[1].into()), None);
    }

    #[test]
    fn a_level_is_a_number() {
        assert_eq!(parse_level("metadata.version=29"), Ok(("metadata.version".to_owned(), 29)));
        for wrong in ["metadata.version", "=1", "a=-1", "a=x", "a="] {
            assert!(parse_level(wrong).is_err(), "{wrong}");
        }
    }
}
