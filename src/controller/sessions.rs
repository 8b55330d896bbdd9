//! What the active controller knows of brokers without having it in its log: when it heard of each, and how far
//! each has followed the metadata. Made anew when a node takes office; every broker counts as heard of then.
//!
//! Times are milliseconds of a clock that never goes back, so that nobody is fenced because a wall clock jumped.

use std::collections::BTreeMap;

use crate::metadata::Image;

/// The soft state of the active controller.
#[derive(Clone, Debug, Default)]
pub struct BrokerSessions {
    timeout_ms: i64,
    resident: Option<i32>,
    contacts: BTreeMap<i32, Contact>,
    /// When leaders are looked at next.
    pub(super) next_leaders_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Contact {
    /// `None`: its connection is gone and nobody answers at its port.
    last_ms: Option<i64>,
    /// The offset of the last metadata record that it has applied.
    metadata_offset: i64,
    /// The end of the log when it began to hand its leaderships over.
    shutdown_offset: Option<i64>,
}

impl BrokerSessions {
    /// The state of a controller that takes office at `now_ms`. The `resident` broker, one that shares its life
    /// with a controller that has no other voter, needs no heartbeats.
    #[must_use]
    pub fn new(image: &Image, timeout_ms: i64, resident: Option<i32>, now_ms: i64) -> Self {
        let contact = Contact { last_ms: Some(now_ms), metadata_offset: -1, shutdown_offset: None };
        let contacts = image.brokers().keys().map(|broker| (*broker, contact)).collect();
        Self { timeout_ms, resident, contacts, next_leaders_ms: None }
    }

    /// Whether a broker needs no heartbeats.
    #[must_use]
    pub fn is_resident(&self, broker: i32) -> bool {
        self.resident == Some(broker)
    }

    /// It was heard of, and has applied the metadata up to this record.
    pub(super) fn touch(&mut self, broker: i32, metadata_offset: i64, now_ms: i64) {
        let shutdown_offset = self.contacts.get(&broker).and_then(|contact| contact.shutdown_offset);
        self.contacts.insert(broker, Contact { last_ms: Some(now_ms), metadata_offset, shutdown_offset });
    }

    /// A new incarnation of it registered: nothing of the one before counts.
    pub(super) fn begin(&mut self, broker: i32, now_ms: i64) {
        let contact = Contact { last_ms: Some(now_ms), metadata_offset: -1, shutdown_offset: None };
        self.contacts.insert(broker, contact);
    }

    /// It is gone from the cluster.
    pub(super) fn forget(&mut self, broker: i32) {
        self.contacts.remove(&broker);
    }

    /// Its session ends at once: nobody answers where it was.
    pub(super) fn lose(&mut self, broker: i32) {
        if let Some(contact) = self.contacts.get_mut(&broker) {
            contact.last_ms = None;
        }
    }

    /// Whether it was heard of lately.
    #[must_use]
    pub fn is_alive(&self, broker: i32, now_ms: i64) -> bool {
        self.is_resident(broker) || self.deadline_ms(broker).is_some_and(|deadline_ms| now_ms < deadline_ms)
    }

    /// When its session ends; `None` where it has none.
    fn deadline_ms(&self, broker: i32) -> Option<i64> {
        self.contacts.get(&broker)?.last_ms.map(|last_ms| last_ms.saturating_add(self.timeout_ms))
    }

    /// Unfenced brokers whose session has ended.
    pub(super) fn expired(&self, image: &Image, now_ms: i64) -> Vec<i32> {
        let unfenced = image.brokers().values().filter(|broker| !broker.fenced).map(|broker| broker.id);
        unfenced.filter(|broker| !self.is_alive(*broker, now_ms)).collect()
    }

    /// When the next thing is due, on the clock that never goes back; at once where it is in the past. `None` while
    /// there is nobody to watch.
    #[must_use]
    pub fn next_deadline_ms(&self, image: &Image) -> Option<i64> {
        let watched =
            image.brokers().values().filter(|broker| !broker.fenced && !self.is_resident(broker.id));
        let sessions = watched.map(|broker| self.deadline_ms(broker.id).unwrap_or(i64::MIN)).min();
        // Not looked at yet in this office: somebody has to begin.
        let leaders = (image.brokers().len() > 1).then(|| self.next_leaders_ms.unwrap_or(i64::MIN));
        [sessions, leaders].into_iter().flatten().min()
    }

    /// The offset that it has to let the others reach before it may stop; the first one stays.
    pub(super) fn begin_shutdown(&mut self, broker: i32, end_offset: i64) {
        if let Some(contact) = self.contacts.get_mut(&broker) {
            contact.shutdown_offset.get_or_insert(end_offset);
        }
    }

    /// See [`BrokerSessions::begin_shutdown`].
    pub(super) fn shutdown_offset(&self, broker: i32) -> Option<i64> {
        self.contacts.get(&broker)?.shutdown_offset
    }

    /// The record up to which every broker that serves has applied the metadata.
    pub(super) fn lowest_active_offset(&self, image: &Image) -> i64 {
        let active = image.brokers().values().filter(|it| !it.fenced && !it.in_controlled_shutdown);
        let followed = active.filter(|it| !self.is_resident(it.id));
        let offset = |broker: i32| self.contacts.get(&broker).map_or(-1, |contact| contact.metadata_offset);
        followed.map(|broker| offset(broker.id)).min().unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::register_broker_record::RegisterBrokerRecord;
    use crate::types::{LeaderEpoch, Offset};

    fn image(brokers: &[(i32, bool)]) -> Image {
        let mut builder = Image::default().builder();
        for &(broker_id, fenced) in brokers {
            let record = RegisterBrokerRecord { broker_id, fenced, ..Default::default() };
            builder.apply(record.into()).unwrap();
        }
        builder.finish(Offset(3), LeaderEpoch(1))
    }

    #[test]
    fn a_broker_that_is_silent_for_the_timeout_has_no_session() {
        let image = image(&[(1, false), (2, false), (3, true)]);
        let mut sessions = BrokerSessions::new(&image, 9_000, None, 100);
        assert_eq!(sessions.next_deadline_ms(&image), Some(i64::MIN), "leaders were not looked at yet");
        sessions.next_leaders_ms = Some(300_000);
        assert_eq!(sessions.next_deadline_ms(&image), Some(9_100));
        sessions.touch(1, 7, 5_000);
        assert!(sessions.expired(&image, 9_099).is_empty());
        assert_eq!(sessions.expired(&image, 9_100), [2], "a fenced broker has nothing to lose");
        assert_eq!(sessions.next_deadline_ms(&image), Some(9_100));
        sessions.lose(1);
        assert_eq!(sessions.expired(&image, 5_001), [1]);
        assert_eq!(sessions.next_deadline_ms(&image), Some(i64::MIN), "it is due at once");
    }

    #[test]
    fn a_resident_broker_is_never_watched() {
        let image = image(&[(1, false)]);
        let sessions = BrokerSessions::new(&image, 9_000, Some(1), 0);
        assert_eq!(sessions.next_deadline_ms(&image), None);
        assert!(sessions.is_alive(1, i64::MAX) && sessions.expired(&image, i64::MAX).is_empty());
    }

    #[test]
    fn a_shutdown_waits_for_the_slowest_broker_that_serves() {
        let image = image(&[(1, false), (2, false), (3, true)]);
        let mut sessions = BrokerSessions::new(&image, 9_000, None, 0);
        sessions.touch(1, 40, 1);
        assert_eq!(sessions.lowest_active_offset(&image), -1, "2 has not said how far it is");
        sessions.touch(2, 30, 1);
        assert_eq!(sessions.lowest_active_offset(&image), 30);
        sessions.begin_shutdown(2, 50);
        sessions.begin_shutdown(2, 60);
        sessions.touch(2, 31, 2);
        assert_eq!(sessions.shutdown_offset(2), Some(50));
        sessions.begin(2, 3);
        assert_eq!(sessions.shutdown_offset(2), None);
    }
}
