//! UpdateFeatures, decided: the levels that the whole cluster has finalised.
//!
//! A level is taken only if every registered broker and controller supports it. `metadata.version` goes down only
//! over levels that change no record; going down in spite of that is refused, as by Kafka. `kraft.version` is the quorum's:
//! to ask for the level that it is at changes nothing, and it is moved by nobody here.

use crate::metadata::record::LEVELS;
use crate::metadata::{Image, METADATA_VERSION, MetadataRecord};
use crate::protocol::ErrorCode;
use crate::protocol::messages::feature_level_record::FeatureLevelRecord;
use crate::protocol::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use crate::protocol::messages::update_features_response::{UpdatableFeatureResult, UpdateFeaturesResponse};

use super::brokers::{FEATURES, KRAFT_FEATURE, min_isr_record};
use super::decision::{Answer, Context, Decision, Refusal, repeated};

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;
const ELIGIBLE: &str = "eligible.leader.replicas.version";
/// The levels of `metadata.version` whose records differ from those of the level below.
const LEVELS_WITH_OTHER_RECORDS: &[i16] = &[8, 11, 13, 14, 15, 17, 23, 30];

/// Decides on a whole request: all of it is done, or nothing. `kraft_version` is the quorum's level.
pub(super) fn update(
    context: &mut Context<'_>,
    request: &UpdateFeaturesRequest,
    kraft_version: i16,
) -> Decision<UpdateFeaturesResponse> {
    let twice = repeated(request.feature_updates.iter().map(|update| update.feature.as_str()));
    let mut answer = UpdateFeaturesResponse::default();
    let mut records = Vec::new();
    let mut first_refusal = None;
    for update in &request.feature_updates {
        let mut result = UpdatableFeatureResult { feature: update.feature.clone(), ..Default::default() };
        let outcome = if twice.contains(update.feature.as_str()) {
            Err(Refusal::new(ErrorCode::InvalidRequest, "The feature stands in the request more than once."))
        } else {
            check(context.image(), update, kraft_version).map(|changes| (changes, update))
        };
        match outcome {
            Ok((true, update)) => records.extend(records_of(context, update)),
            Ok((false, _)) => {}
            Err(refusal) => {
                (result.error_code, result.error_message) = refusal.fields();
                first_refusal.get_or_insert(refusal);
            }
        }
        answer.results.push(result);
    }
    if let Some(refusal) = first_refusal {
        let message = format!("No feature is updated: {}", refusal.message);
        answer.refuse(&Refusal::new(refusal.code, message));
        records.clear();
    }
    if request.validate_only {
        records.clear();
    }
    if let Err(refusal) = context.apply(&records) {
        answer.refuse(&refusal);
        records.clear();
    }
    Decision { records, answer }
}

fn records_of(context: &Context<'_>, update: &FeatureUpdateKey) -> Vec<MetadataRecord> {
    let record = FeatureLevelRecord {
        name: update.feature.clone(),
        feature_level: update.max_version_level,
        ..FeatureLevelRecord::default()
    };
    let mut records = vec![MetadataRecord::from(record)];
    // Who is eligible is decided by one number for the whole cluster.
    if *update.feature == *ELIGIBLE && update.max_version_level > 0 {
        let default = crate::metadata::ConfigResource::cluster_default();
        if !context.image().configs(&default).contains_key("min.insync.replicas") {
            records.push(min_isr_record(context.config.topic_defaults.min_insync_replicas));
        }
    }
    records
}

/// Whether anything changes by it.
fn check(image: &Image, update: &FeatureUpdateKey, kraft_version: i16) -> Result<bool, Refusal> {
    let (name, level) = (update.feature.as_str(), update.max_version_level);
    let refuse = |why: String| {
        let message = format!("Invalid update version {level} for feature {name}. {why}");
        Err(Refusal::new(ErrorCode::InvalidUpdateVersion, message))
    };
    // Version 0 of the request knows only whether it may go down.
    let kind = match update.upgrade_type {
        UPGRADE if update.allow_downgrade => SAFE_DOWNGRADE,
        kind => kind,
    };
    if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(&kind) {
        return refuse("The controller does not support the given upgrade type.".to_owned());
    }
    let is_quorums = name == KRAFT_FEATURE.0;
    let current = if is_quorums { kraft_version } else { image.feature(name) };
    if level < 0 {
        return refuse("A level is not below 0.".to_owned());
    }
    if let Some(why) = unsupported(image, name, level) {
        return refuse(why);
    }
    match (level.cmp(&current), kind) {
        (std::cmp::Ordering::Less, UPGRADE) => {
            refuse("It would go down, and the upgrade type does not allow that.".to_owned())
        }
        (std::cmp::Ordering::Greater, SAFE_DOWNGRADE | UNSAFE_DOWNGRADE) => {
            refuse("It would go up, and a downgrade was asked for.".to_owned())
        }
        (std::cmp::Ordering::Less, _) if is_quorums => {
            refuse("The quorum's protocol does not go down.".to_owned())
        }
        (std::cmp::Ordering::Greater, _) if is_quorums => refuse(
            "The voters of this quorum are those of controller.quorum.voters, and klamm does not move them into the \
             log: that is decided when a cluster is made."
                .to_owned(),
        ),
        (std::cmp::Ordering::Less, _) if name == METADATA_VERSION => match keeps_records(current, level) {
            true => Ok(true),
            false => refuse("Metadata that the lower level has no records for would be lost.".to_owned()),
        },
        (order, _) => Ok(order != std::cmp::Ordering::Equal),
    }
}

fn keeps_records(from: i16, to: i16) -> bool {
    LEVELS_WITH_OTHER_RECORDS.iter().all(|level| *level <= to || *level > from)
}

/// Who does not support a level, if anybody.
fn unsupported(image: &Image, name: &str, level: i16) -> Option<String> {
    let known = FEATURES.iter().map(|&(feature, min, max, _)| (feature, min, max)).chain([KRAFT_FEATURE]);
    let Some((_, min, max)) = known.into_iter().find(|(feature, ..)| *feature == name) else {
        return Some("The controller does not know this feature.".to_owned());
    };
    let (min, max) = if name == METADATA_VERSION { (*LEVELS.start(), *LEVELS.end()) } else { (min, max) };
    if !(min..=max).contains(&level) {
        return Some(format!("The controller supports {min} to {max}."));
    }
    let broker = image.brokers().values().find(|broker| {
        let range = broker.features.get(name).map_or(0..=0, |range| range.min..=range.max);
        !range.contains(&level)
    });
    if let Some(broker) = broker {
        return Some(format!("Broker {} does not support it.", broker.id));
    }
    let controller = image.controllers().values().find(|controller| {
        let range = controller.features.iter().find(|feature| feature.name == name);
        let range = range.map_or(0..=0, |it| it.min_supported_version..=it.max_supported_version);
        !range.contains(&level)
    });
    controller.map(|controller| format!("Controller {} does not support it.", controller.controller_id))
}

impl Answer for UpdateFeaturesResponse {
    fn refuse(&mut self, refusal: &Refusal) {
        (self.error_code, self.error_message) = refusal.fields();
    }

    fn codes(&self) -> Vec<i16> {
        vec![self.error_code]
    }
}
