//! Holds what was consumed against what was produced, bucket by bucket, and says what is not known. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::audit::tally::{BUCKET_MS, Bucket, Count, Side};

/// After so long without a word a session that has not ended is not counted on.
const SILENCE_MAX_MS: i64 = 180_000;

/// What is known of a bucket for one name that consumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) topic: String,
    pub(super) bucket: i64,
    /// `None` where nobody has counted what was consumed of the topic.
    pub(super) consumer: Option<String>,
    pub(super) produced: u64,
    /// May have been produced or not.
    pub(super) unknown: u64,
    pub(super) consumed: u64,
    /// Of those consumed so many at least were read more than once.
    pub(super) twice: u64,
    /// Consumed more than a minute after the bucket's end.
    pub(super) late: u64,
    pub(super) verdict: Verdict,
}

/// What that comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same records.
    Same,
    /// As many; whether the same is not known, since the places of some are not.
    AsMany,
    /// The difference lies within what producers do not know.
    NotKnown,
    /// Fewer were consumed than produced.
    Missing(u64),
    /// More were consumed than produced.
    More(u64),
    /// As many, but not the same: some are missing, and as many were read twice or not counted.
    Exchanged,
    /// Nobody counts what is consumed of the topic.
    NotConsumed,
    /// From before anybody counted what is produced.
    NotProduced,
    /// It may still change.
    Open,
}

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::AsMany => "as many",
            Self::NotKnown => "not known",
            Self::Missing(_) => "missing",
            Self::More(_) => "more",
            Self::Exchanged => "exchanged",
            Self::NotConsumed => "not consumed",
            Self::NotProduced => "not produced",
            Self::Open => "open",
        }
    }

    pub(super) fn is_difference(self) -> bool {
        matches!(self, Self::Missing(_) | Self::More(_) | Self::Exchanged)
    }

    pub(super) fn is_unjudged(self) -> bool {
        matches!(self, Self::NotKnown | Self::NotConsumed)
    }
}

/// A session of which the last word was not heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Silent {
    pub(super) side: Side,
    pub(super) name: String,
    pub(super) session: String,
    pub(super) last_at: i64,
}

/// All that was said in the monitoring topic.
#[derive(Debug, Default)]
pub(super) struct Book {
    sessions: BTreeMap<String, Session>,
    /// By topic, bucket and session: what was said last.
    buckets: BTreeMap<(String, i64), BTreeMap<String, Bucket>>,
}

#[derive(Debug)]
struct Session {
    side: Side,
    name: String,
    since: i64,
    last_at: i64,
    closed: bool,
}

/// What several sessions come to.
#[derive(Debug, Default)]
struct Sum {
    count: u64,
    unknown: u64,
    late: u64,
    digest: u64,
    has_places: bool,
    offsets: BTreeMap<i32, Vec<(i64, i64, u64)>>,
}

impl Sum {
    fn of<'a>(buckets: impl IntoIterator<Item = &'a Bucket>) -> Self {
        let mut sum = Self { has_places: true, ..Self::default() };
        for bucket in buckets {
            sum.count = sum.count.saturating_add(bucket.count);
            sum.unknown = sum.unknown.saturating_add(bucket.unknown);
            sum.late = sum.late.saturating_add(bucket.late);
            match bucket.digest.as_deref().and_then(|digest| u64::from_str_radix(digest, 16).ok()) {
                Some(digest) => sum.digest = sum.digest.wrapping_add(digest),
                None => sum.has_places = false,
            }
            for (partition, span) in &bucket.offsets {
                sum.offsets.entry(*partition).or_default().push(*span);
            }
        }
        sum
    }

    /// How many records there are at most.
    fn size(&self) -> u64 {
        self.count.saturating_add(self.unknown)
    }

    /// How many records at least were counted more than once: more than there are offsets to count.
    fn twice(&self) -> u64 {
        let of_partition = |spans: &Vec<(i64, i64, u64)>| {
            let mut spans = spans.clone();
            spans.sort_unstable();
            let counted = spans.iter().fold(0u64, |sum, span| sum.saturating_add(span.2));
            let (mut offsets, mut end) = (0u64, i64::MIN);
            for (first, last, _) in spans {
                let from = first.max(end);
                let behind = last.saturating_add(1);
                offsets = offsets.saturating_add(u64::try_from(behind.saturating_sub(from)).unwrap_or(0));
                end = end.max(behind);
            }
            counted.saturating_sub(offsets)
        };
        self.offsets.values().map(of_partition).fold(0, u64::saturating_add)
    }
}

impl Book {
    /// Takes a record of the monitoring topic.
    pub(super) fn take(&mut self, count: Count) {
        let Count { side, name, session: id, since, at, closed, counted, .. } = count;
        let session = self.sessions.entry(id.clone()).or_insert(Session {
            side,
            name,
            since,
            last_at: at,
            closed: false,
        });
        session.last_at = session.last_at.max(at);
        session.closed |= closed;
        if let Some(counted) = counted {
            let sessions = self.buckets.entry((counted.topic, counted.bucket)).or_default();
            // What a session counts only grows: a record that comes out of order says less.
            let known = sessions.entry(id).or_default();
            let said = counted.bucket_counts;
            if said.size() >= known.size() {
                *known = said;
            }
        }
    }

    /// Sessions that have fallen silent without having ended.
    pub(super) fn silent(&self, now_ms: i64) -> Vec<Silent> {
        let is_silent =
            |session: &Session| !session.closed && now_ms.saturating_sub(session.last_at) > SILENCE_MAX_MS;
        let silent = self.sessions.iter().filter(|(_, session)| is_silent(session));
        silent
            .map(|(id, session)| Silent {
                side: session.side,
                name: session.name.clone(),
                session: id.clone(),
                last_at: session.last_at,
            })
            .collect()
    }

    /// A row for each bucket and each name that consumes the topic. Buckets that ended less than `grace_ms` ago are open.
    pub(super) fn rows(&self, now_ms: i64, grace_ms: i64) -> Vec<Row> {
        let (mut consumers, mut producing_since) =
            (BTreeMap::<&str, BTreeSet<&str>>::new(), BTreeMap::<&str, i64>::new());
        for ((topic, _), sessions) in &self.buckets {
            for session in sessions.keys().filter_map(|id| self.sessions.get(id)) {
                match session.side {
                    Side::Consumed => drop(consumers.entry(topic).or_default().insert(&session.name)),
                    Side::Produced => {
                        let since = producing_since.entry(topic).or_insert(session.since);
                        *since = (*since).min(session.since);
                    }
                }
            }
        }
        let mut rows = Vec::new();
        for ((topic, bucket), sessions) in &self.buckets {
            let of = |side: Side, name: Option<&str>| {
                Sum::of(sessions.iter().filter_map(|(id, counted)| {
                    let session = self.sessions.get(id)?;
                    (session.side == side && name.is_none_or(|name| name == session.name)).then_some(counted)
                }))
            };
            let produced = of(Side::Produced, None);
            let end = bucket.saturating_add(BUCKET_MS);
            let is_open = end.saturating_add(grace_ms) > now_ms;
            let is_before = producing_since.get(topic.as_str()).is_none_or(|since| end <= *since);
            let names = consumers.get(topic.as_str()).into_iter().flatten().map(|name| Some(*name));
            let names: Vec<Option<&str>> = match consumers.contains_key(topic.as_str()) {
                true => names.collect(),
                false => vec![None],
            };
            for name in names {
                let consumed = if name.is_some() { of(Side::Consumed, name) } else { Sum::default() };
                let verdict = match (name, is_open) {
                    (_, true) => Verdict::Open,
                    (None, _) => Verdict::NotConsumed,
                    _ if produced.size() == 0 && is_before => Verdict::NotProduced,
                    _ => verdict(&produced, &consumed),
                };
                rows.push(Row {
                    topic: topic.clone(),
                    bucket: *bucket,
                    consumer: name.map(str::to_owned),
                    produced: produced.count,
                    unknown: produced.unknown,
                    consumed: consumed.count,
                    twice: consumed.twice(),
                    late: consumed.late,
                    verdict,
                });
            }
        }
        rows
    }
}

fn verdict(produced: &Sum, consumed: &Sum) -> Verdict {
    let most = produced.size();
    match consumed.count {
        count if count < produced.count => Verdict::Missing(produced.count - count),
        count if count > most => Verdict::More(count - most),
        _ if produced.unknown > 0 => Verdict::NotKnown,
        _ if !produced.has_places || !consumed.has_places => Verdict::AsMany,
        _ if produced.digest == consumed.digest => Verdict::Same,
        _ => Verdict::Exchanged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::audit::tally::{Tally, VERSION};

    const LATER: i64 = 10 * BUCKET_MS;

    fn said(book: &mut Book, side: Side, name: &str, session: &str, offsets: &[i64]) {
        let mut tally = Tally::default();
        for offset in offsets {
            tally.count("t", (0, Some(*offset)), 1, 1);
        }
        let unknown = usize::from(session.contains("unsure"));
        (0..unknown).for_each(|_| tally.unknown("t", 1, 1));
        let count = |closed, counted| Count {
            audit: VERSION,
            side,
            name: name.into(),
            session: session.into(),
            since: 0,
            at: 5,
            closed,
            counted,
        };
        book.take(count(false, tally.changed().pop()));
        if !session.contains("killed") {
            book.take(count(true, None));
        }
    }

    fn judged(produced: &[(&str, &[i64])], consumed: &[(&str, &[i64])]) -> Row {
        let mut book = Book::default();
        for (session, offsets) in produced {
            said(&mut book, Side::Produced, "p", session, offsets);
        }
        for (session, offsets) in consumed {
            said(&mut book, Side::Consumed, "c", session, offsets);
        }
        book.rows(LATER, 0).remove(0)
    }

    #[test]
    fn counts_that_match_are_the_same_only_if_the_records_are() {
        let all: &[(&str, &[i64])] = &[("a", &[0, 1]), ("b", &[2, 3])];
        assert_eq!(judged(all, &[("x", &[0, 1, 2, 3])]).verdict, Verdict::Same);
        assert_eq!(judged(all, &[("x", &[0, 1]), ("y", &[2, 3])]).verdict, Verdict::Same);
        assert_eq!(judged(all, &[("x", &[0, 1, 2])]).verdict, Verdict::Missing(1));
        let again = judged(all, &[("x", &[0, 1, 2]), ("y", &[2, 3])]);
        assert_eq!((again.verdict, again.twice), (Verdict::More(1), 1));
        let lost = judged(all, &[("x", &[0, 1, 2]), ("y", &[2])]);
        assert_eq!((lost.verdict, lost.twice), (Verdict::Exchanged, 1));
    }

    #[test]
    fn what_is_not_known_is_not_judged() {
        let unsure: &[(&str, &[i64])] = &[("unsure", &[0, 1])];
        assert_eq!(judged(unsure, &[("x", &[0, 1])]).verdict, Verdict::NotKnown);
        assert_eq!(judged(unsure, &[("x", &[0, 1, 2])]).verdict, Verdict::NotKnown);
        assert_eq!(judged(unsure, &[("x", &[0])]).verdict, Verdict::Missing(1));
        assert_eq!(judged(unsure, &[]).verdict, Verdict::NotConsumed);
        assert_eq!(judged(&[], &[("x", &[0])]).verdict, Verdict::NotProduced);
    }

    #[test]
    fn numbers_that_nobody_can_have_counted_are_borne() {
        let text = format!(
            r#"{{"audit":{VERSION},"side":"produced","name":"p","session":"s","since":{0},"at":{0},"closed":true,
                "counted":{{"topic":"t","bucket":{0},"counts":{{"count":{1},"unknown":{1},"late":{1},"digest":"f",
                "offsets":{{"0":[{2},{0},{1}]}}}}}}}}"#,
            i64::MAX,
            u64::MAX,
            i64::MIN
        );
        let mut book = Book::default();
        for session in ["one", "two"] {
            let mut count: Count = serde_json::from_str(&text).unwrap();
            session.clone_into(&mut count.session);
            book.take(count.clone());
            book.take(count);
        }
        assert_eq!(book.rows(LATER, 0)[0].verdict, Verdict::Open);
    }

    #[test]
    fn a_session_that_was_killed_is_named_and_a_fresh_bucket_is_open() {
        let mut book = Book::default();
        said(&mut book, Side::Produced, "p", "killed", &[0]);
        said(&mut book, Side::Produced, "p", "whole", &[1]);
        assert_eq!(book.silent(100), []);
        let silent = book.silent(LATER);
        assert_eq!(silent.iter().map(|one| one.session.as_str()).collect::<Vec<_>>(), ["killed"]);
        assert_eq!(book.rows(BUCKET_MS, 1)[0].verdict, Verdict::Open);
    }
}
