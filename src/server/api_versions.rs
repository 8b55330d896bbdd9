//! ApiVersions (18), versions 0 to 4: what this broker serves. Always answered, whatever the version.

use super::call::{Call, code};
use super::dispatch;
use super::node::Node;
use super::session::Session;
use crate::controller::{Controller, supported_features};
use crate::metadata::{Image, VersionRange};
use crate::net::{Answer, Reply};
use crate::protocol::messages::api_versions_request::ApiVersionsRequest;
use crate::protocol::messages::api_versions_response::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::protocol::{Api, ApiKey, DecodeError, ErrorCode, Str};

/// From this version on a client says what it is.
const SOFTWARE_FROM: i16 = 3;

/// Answers with the APIs that have a handler.
///
/// # Errors
/// The request is malformed.
pub fn handle(node: &Node, session: &mut Session, call: &Call) -> Result<Reply, DecodeError> {
    Ok(match greeted(session, call)? {
        true => call.reply(&response(dispatch::served(), &node.controller, supported(node))),
        false => call.reply(&ApiVersionsResponse {
            error_code: code(ErrorCode::InvalidRequest),
            ..ApiVersionsResponse::default()
        }),
    })
}

/// The same at the controller's listener, with the APIs that are served there, and what this version supports.
///
/// # Errors
/// The request is malformed.
pub fn of_controller(
    apis: impl Iterator<Item = &'static Api>,
    controller: &Controller,
    session: &mut Session,
    call: &Call,
) -> Result<Reply, DecodeError> {
    // Nodes of the quorum ask without saying what they are.
    greeted(session, call)?;
    let features = supported_features().map(|(name, min_version, max_version)| SupportedFeatureKey {
        name: name.into(),
        min_version,
        max_version,
        ..SupportedFeatureKey::default()
    });
    Ok(call.reply(&response(apis, controller, features.collect())))
}

/// Notes what the client is; false where it says so in a way that is none.
fn greeted(session: &mut Session, call: &Call) -> Result<bool, DecodeError> {
    let request: ApiVersionsRequest = call.decode()?;
    let (name, version) = (&request.client_software_name, &request.client_software_version);
    if call.version >= SOFTWARE_FROM && !(is_valid(name) && is_valid(version)) {
        return Ok(false);
    }
    session.greet(name, version);
    Ok(true)
}

/// The answer to a version that does not exist: version 0, with the versions of ApiVersions itself, so that
/// the client can ask again (KIP-511).
pub fn unsupported_version(call: &Call) -> Answer {
    let row = ApiKey::ApiVersions.api();
    let response = ApiVersionsResponse {
        error_code: code(ErrorCode::UnsupportedVersion),
        api_keys: vec![ApiVersion {
            api_key: row.key as i16,
            min_version: row.lowest,
            max_version: row.highest,
            ..ApiVersion::default()
        }],
        ..ApiVersionsResponse::default()
    };
    call.answer_in_version(0, &response, Vec::new())
}

fn response(
    apis: impl Iterator<Item = &'static Api>,
    controller: &Controller,
    supported_features: Vec<SupportedFeatureKey>,
) -> ApiVersionsResponse {
    let image = controller.image();
    let api_keys = apis.map(|api| ApiVersion {
        api_key: api.key as i16,
        min_version: api.lowest_announced(),
        max_version: api.highest,
        ..ApiVersion::default()
    });
    ApiVersionsResponse {
        api_keys: api_keys.collect(),
        supported_features,
        finalized_features: finalized(&image, controller.kraft_version()),
        finalized_features_epoch: image.end_offset().0 - 1,
        ..ApiVersionsResponse::default()
    }
}

/// What this broker registered with.
fn supported(node: &Node) -> Vec<SupportedFeatureKey> {
    let image = node.image();
    let features = image.broker(node.id.0).map(|broker| broker.features.clone()).unwrap_or_default();
    let feature = |(name, range): (String, VersionRange)| SupportedFeatureKey {
        name: Str::from(name),
        min_version: range.min,
        max_version: range.max,
        ..SupportedFeatureKey::default()
    };
    features.into_iter().map(feature).collect()
}

/// The quorum's protocol has no record of a feature's level, but one of its own.
fn finalized(image: &Image, kraft_version: i16) -> Vec<FinalizedFeatureKey> {
    let feature = |(name, level): (&str, i16)| FinalizedFeatureKey {
        name: Str::from(name),
        max_version_level: level,
        min_version_level: level,
        ..FinalizedFeatureKey::default()
    };
    let levels = image.features().iter().map(|(name, level)| (name.as_str(), *level));
    let levels = levels.chain([("kraft.version", kraft_version)]);
    levels.filter(|(_, level)| *level > 0).map(feature).collect()
}

/// KIP-511: letters, digits, `-` and `.`, neither of these two first or last.
fn is_valid(software: &str) -> bool {
    let (Some(first), Some(last)) = (software.bytes().next(), software.bytes().last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && software.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kip_511() {
        for good in ["librdkafka", "2.3.0", "a", "apache-kafka-java", "confluent-kafka-python"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "a_b", "ä", "a\0b"] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }
}
