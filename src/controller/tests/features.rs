//! Levels of features.

use super::*;
use crate::controller::features::update;
use crate::protocol::messages::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};

/// The voters stand in the log.
const KRAFT_VERSION: i16 = 1;

fn set(cluster: &mut Cluster, updates: &[(&str, i16, i8)], validate_only: bool) -> Vec<ErrorCode> {
    let key = |&(feature, max_version_level, upgrade_type): &(&str, i16, i8)| FeatureUpdateKey {
        feature: feature.into(),
        max_version_level,
        upgrade_type,
        ..Default::default()
    };
    let request = UpdateFeaturesRequest {
        feature_updates: updates.iter().map(key).collect(),
        validate_only,
        ..Default::default()
    };
    let answer = cluster.decide(|context| update(context, &request, KRAFT_VERSION));
    let codes: Vec<_> = answer.results.iter().map(|it| ErrorCode::from_wire(it.error_code)).collect();
    assert_eq!(answer.error_code == 0, codes.iter().all(|code| *code == ErrorCode::None));
    codes
}

#[test]
fn a_level_is_taken_only_if_every_node_supports_it() {
    let mut cluster = Cluster::at_level(29, true);
    let mut old = cluster.registration(1, -1);
    old.features[0].max_supported_version = 29;
    cluster.start_with(&old);
    assert_eq!(set(&mut cluster, &[("metadata.version", 30, 1)], false), [ErrorCode::InvalidUpdateVersion]);
    cluster.kill(1);
    cluster.start(1);
    assert_eq!(set(&mut cluster, &[("metadata.version", 30, 1)], true), [ErrorCode::None]);
    assert_eq!(cluster.image.feature("metadata.version"), 29, "it was only asked");
    assert_eq!(set(&mut cluster, &[("metadata.version", 30, 1)], false), [ErrorCode::None]);
    assert_eq!(cluster.image.feature("metadata.version"), 30);
}

#[test]
fn levels_go_down_only_when_asked_and_never_over_records_that_would_be_lost() {
    let mut cluster = Cluster::at_level(29, true);
    let refused = ErrorCode::InvalidUpdateVersion;
    assert_eq!(set(&mut cluster, &[("metadata.version", 28, 1)], false), [refused]);
    assert_eq!(set(&mut cluster, &[("metadata.version", 22, 2)], false), [refused]);
    assert_eq!(set(&mut cluster, &[("metadata.version", 22, 3)], false), [refused]);
    assert_eq!(set(&mut cluster, &[("metadata.version", 23, 2)], false), [ErrorCode::None]);
    assert_eq!(set(&mut cluster, &[("group.version", 1, 2)], false), [ErrorCode::None], "it is there");
    for unknown in [("no.such", 1, 1), ("group.version", -1, 1), ("group.version", 9, 1)] {
        assert_eq!(set(&mut cluster, &[unknown], false), [refused]);
    }
}

#[test]
fn the_level_that_the_quorum_is_at_is_no_change_and_no_other_is_taken() {
    let mut cluster = Cluster::new();
    let before = cluster.image.clone();
    let all = [
        ("eligible.leader.replicas.version", 1, 1),
        ("group.version", 1, 1),
        ("kraft.version", 1, 1),
        ("metadata.version", 30, 1),
        ("share.version", 1, 1),
        ("streams.version", 1, 1),
        ("transaction.version", 2, 1),
    ];
    for dry in [true, false] {
        assert_eq!(set(&mut cluster, &all, dry), [ErrorCode::None; 7], "what a release stands for");
    }
    assert_eq!(set(&mut cluster, &[("kraft.version", 1, 2)], false), [ErrorCode::None], "it is there");
    assert_eq!(cluster.image.features(), before.features());
    for other in [("kraft.version", 0, 2), ("kraft.version", 0, 1), ("kraft.version", 2, 1)] {
        assert_eq!(set(&mut cluster, &[other], false), [ErrorCode::InvalidUpdateVersion], "{other:?}");
    }
    let key = FeatureUpdateKey {
        feature: "kraft.version".into(),
        max_version_level: 1,
        upgrade_type: 1,
        ..Default::default()
    };
    let request = UpdateFeaturesRequest { feature_updates: vec![key], ..Default::default() };
    let answer = cluster.decide(|context| update(context, &request, 0));
    let why = answer.results[0].error_message.as_deref().unwrap();
    assert!(why.contains("controller.quorum.voters"), "{why}");
}

#[test]
fn all_of_a_request_is_done_or_nothing() {
    let mut cluster = Cluster::new();
    let codes = set(&mut cluster, &[("group.version", 0, 2), ("no.such", 1, 1)], false);
    assert_eq!(codes, [ErrorCode::None, ErrorCode::InvalidUpdateVersion]);
    assert_eq!(cluster.image.feature("group.version"), 1);
}
