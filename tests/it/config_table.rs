//! The table of configuration keys against Kafka's own facts, in `testdata/configs-4.3.tsv`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use klamm::config::table::{KEYS, find};
use klamm::config::{Effect, Fallback, Importance, Scope, Update};

/// scope, name, type, default, valid values, importance, update mode or synonym, internal.
fn facts() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/configs-4.3.tsv");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Throttles count as the broker's: they are set there, while it runs.
fn scope(name: &str) -> Scope {
    match name {
        "broker" | "quota" => Scope::Broker,
        "topic" => Scope::Topic,
        "group" => Scope::Group,
        "client-metrics" => Scope::ClientMetrics,
        other => panic!("no scope {other}"),
    }
}

#[test]
fn every_key_of_kafka_has_a_row_with_the_same_type_default_range_and_mode() {
    let mut findings = Vec::new();
    let facts = facts();
    for fact in &facts {
        let [of, name, kind, default, valid, importance, mode, internal] = fact.as_slice() else {
            panic!("{fact:?}")
        };
        let Some(row) = find(scope(of), name) else {
            findings.push(format!("{of} {name}: no row"));
            continue;
        };
        let row_default = match row.default {
            Fallback::Null => "null",
            Fallback::Required => "(required)",
            Fallback::Value(text) => text,
        };
        let row_importance = match row.importance {
            Importance::High => "high",
            Importance::Medium => "medium",
            Importance::Low => "low",
        };
        let row_mode = match (of.as_str(), row.update) {
            ("broker", Update::ReadOnly) => "read-only",
            ("broker", Update::PerBroker) => "per-broker",
            ("broker", Update::ClusterWide) => "cluster-wide",
            ("topic", _) => row.synonym.unwrap_or_default(),
            _ => "",
        };
        let same = (row.kind.to_string() == *kind)
            && row_default == default
            && row.valid.to_string() == *valid
            && row_importance == importance
            && row_mode == mode
            && row.internal == (internal == "internal");
        if !same {
            findings.push(format!("{of} {name}: {row:?} is not {fact:?}"));
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert_eq!(KEYS.len(), facts.len(), "a row of the table is no key of Kafka");
}

#[test]
fn rows_are_sorted_and_their_own_defaults_are_legal() {
    for pair in KEYS.windows(2) {
        assert!((pair[0].scope, pair[0].name) < (pair[1].scope, pair[1].name), "{}", pair[1].name);
    }
    for row in KEYS {
        for fallback in [Some(row.default), row.ours].into_iter().flatten() {
            if let Fallback::Value(text) = fallback
                && !text.is_empty()
            {
                assert!(row.parse(text).is_ok(), "{} = {text}", row.name);
            }
        }
    }
}

#[test]
fn every_row_has_one_sentence_of_its_own() {
    let mut seen = BTreeSet::new();
    for row in KEYS {
        assert!(row.doc.ends_with('.') && row.doc.len() < 140, "{}: {}", row.name, row.doc);
        assert!(row.doc.chars().next().is_some_and(char::is_uppercase), "{}", row.name);
        assert!(seen.insert((row.scope, row.doc)), "{}: said twice", row.name);
        if let Effect::Waits(words) | Effect::RefusedUntil(words) | Effect::NoEffect(words) = row.effect {
            assert!(!words.is_empty() && !words.ends_with('.'), "{}", row.name);
        }
    }
}

#[test]
fn what_stands_behind_a_topics_key_is_a_brokers_key_that_changes_while_it_runs() {
    for row in KEYS {
        if let Some(synonym) = row.synonym {
            let behind = find(Scope::Broker, synonym).unwrap();
            assert_eq!(behind.update, Update::ClusterWide, "{synonym}");
            assert_eq!(behind.kind, row.kind, "{synonym}");
        }
    }
}
