//! Patterns of topics in a group: a new one is looked up behind the heartbeat that brings it, all of them again
//! where topics were made, and every so often. Until then a member has what the last look found.

use crate::coordinator::state::State;
use crate::coordinator::step::Step;
use crate::coordinator::timers::Timer;
use crate::protocol::Str;

use super::member::Member;
use super::regex::{Resolved, matching};
use super::{ConsumerGroup, metadata_hash, records};

/// Patterns are looked up no more often than this.
const REFRESH_INTERVAL_MIN_MS: i64 = 10_000;

/// What a heartbeat changed about its member's pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatternChange {
    None,
    /// The new one is yet to be looked up.
    Unresolved,
    /// The group knows which topics the new one stands for; or there is none any more.
    Resolved,
}

impl State {
    /// After a member's description was written, `before` it being the group's counts of its patterns: forgets a
    /// pattern that nobody has any more, and has patterns looked up where that is due.
    pub(super) fn follow_pattern(
        &mut self,
        step: &mut Step<'_>,
        group_id: &Str,
        before: &Member,
        after: &Member,
    ) -> PatternChange {
        let Some(group) = self.consumer_group(group_id) else { return PatternChange::None };
        let (old, new) = (before.pattern(), after.pattern());
        let mut change = PatternChange::None;
        let mut is_new_here = false;
        let mut forgotten = None;
        if before.regex != after.regex {
            change = PatternChange::Unresolved;
            forgotten = old.filter(|old| group.patterns.of(old) == 0);
            match new {
                Some(new) => {
                    is_new_here = group.patterns.of(new) == 1;
                    if !is_new_here && group.resolved.contains_key(new) {
                        change = PatternChange::Resolved;
                    }
                }
                None if old.is_some() => change = PatternChange::Resolved,
                None => {}
            }
        }
        let refresh = group.refresh_is_due(step, is_new_here);
        if let Some(pattern) = forgotten {
            let tombstone = records::regex_tombstone(group_id, pattern);
            self.write(step, tombstone);
        }
        if refresh {
            step.timers.set(group_id, Timer::RegexRefresh, step.now.timer_ms);
        }
        change
    }

    /// Looks up all patterns of a group.
    pub(super) fn refresh_patterns(&mut self, step: &mut Step<'_>, group_id: &Str) {
        let Some(group) = self.consumer_group_mut(group_id) else { return };
        group.topics_are_new = false;
        let mut bump = false;
        let mut found = Vec::new();
        for (pattern, _) in group.patterns.iter() {
            let resolved = Resolved {
                topics: matching(pattern, step.image),
                version: step.image.end_offset().0 - 1,
                timestamp_ms: step.now.wall_ms,
            };
            // Nothing found by a new pattern is a change, too: its member may have read what an older one found.
            let before = group.resolved.get(pattern);
            bump |= before.is_none_or(|before| before.topics != resolved.topics);
            found.push(records::regex(group_id, pattern, &resolved));
        }
        for record in found {
            self.write(step, record);
        }
        self.bump_epoch_if(step, group_id, bump);
    }

    /// Writes the next group epoch, if asked for or if the topics' metadata differs from what it was.
    pub(super) fn bump_epoch_if(&mut self, step: &mut Step<'_>, group_id: &Str, bump: bool) {
        let Some(group) = self.consumer_group_mut(group_id) else { return };
        group.metadata_is_stale = false;
        let hash = metadata_hash::of_group(group.topics.names(), step.image);
        if bump || hash != group.metadata_hash {
            let record = records::epoch(group_id, group.group_epoch + 1, hash);
            self.write(step, record);
        }
    }
}

impl ConsumerGroup {
    fn refresh_is_due(&self, step: &Step<'_>, has_new: bool) -> bool {
        if self.patterns.is_empty() || step.timers.deadline_ms(&self.id, Timer::RegexRefresh).is_some() {
            return false;
        }
        let last = self.resolved.values().map(|resolved| resolved.timestamp_ms).next();
        let age_ms = last.map_or(i64::MAX, |last_ms| step.now.wall_ms.saturating_sub(last_ms));
        age_ms > REFRESH_INTERVAL_MIN_MS
            && (has_new
                || self.patterns.len() != self.resolved.len()
                || self.topics_are_new
                || age_ms > step.settings.consumer_regex_refresh_interval_ms)
    }
}
