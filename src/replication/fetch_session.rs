//! Incremental fetch sessions (KIP-227): the broker remembers which partitions a consumer reads, so that a
//! fetch names only what changed and the answer only what is new.
//!
//! A session belongs to whoever knows its id and its epoch; the epoch grows by one a fetch, and a fetch with
//! another one is refused. The cache holds `max.incremental.fetch.session.cache.slots` sessions. A new one
//! pushes out the one longest unused, if that was not used for [`EVICTION_MS`]; else the client goes on
//! without a session.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::protocol::{ErrorCode, Str};
use crate::types::Uuid;

/// A session unused for this long may be pushed out.
pub const EVICTION_MS: i64 = 120_000;
const NO_SESSION: i32 = 0;
const FIRST_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;
/// From this version on requests name topics by id.
const TOPIC_IDS_FROM: i16 = 13;

/// What a fetch calls a topic by: the id from version 13 on, the name before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicKey {
    /// The name; empty where the id is given.
    pub name: Str,
    /// The id; zero where the name is given.
    pub id: Uuid,
}

/// One partition that a consumer reads, as it asked for it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchItem {
    /// The topic.
    pub topic: TopicKey,
    /// The partition's number.
    pub partition: i32,
    /// The epoch the client believes current, or -1.
    pub current_leader_epoch: i32,
    /// The offset to read from.
    pub fetch_offset: i64,
    /// The epoch of the last record the client has, or -1.
    pub last_fetched_epoch: i32,
    /// Where a follower's log starts, or -1.
    pub log_start_offset: i64,
    /// How much to return of this partition.
    pub partition_max_bytes: i32,
}

/// What an answer says of a partition, as far as sessions care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Kafka's error code.
    pub error_code: i16,
    /// The high watermark, or -1.
    pub high_watermark: i64,
    /// The log start offset, or -1.
    pub log_start_offset: i64,
    /// Bytes of records.
    pub records_len: usize,
    /// Whether the client's log has diverged from the partition's, or it is sent to another replica.
    pub diverges: bool,
}

/// All sessions of a broker.
#[derive(Debug)]
pub struct SessionCache {
    slots: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    sessions: HashMap<i32, Entry>,
    by_use: BTreeMap<(i64, i32), ()>,
    random: u64,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Mutex<Session>>,
    used_ms: i64,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    uses_topic_ids: bool,
    /// In the order in which they are served: who got records goes to the end.
    order: BTreeMap<u64, Cached>,
    index: HashMap<(TopicKey, i32), u64>,
    next_order: u64,
}

#[derive(Debug)]
struct Cached {
    item: FetchItem,
    /// What the client was told last; -1 says it has to be told again.
    high_watermark: i64,
    log_start_offset: i64,
}

/// How one fetch stands to its session.
#[derive(Debug)]
pub struct FetchContext {
    /// What to read, in this order.
    pub items: Vec<FetchItem>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Everything is answered, nothing remembered.
    Sessionless,
    /// Everything is answered; a session is made of it.
    Full { uses_topic_ids: bool },
    /// What changed is answered.
    Incremental { id: i32, session: Arc<Mutex<Session>>, epoch: i32 },
}

impl SessionCache {
    /// Room for `slots` sessions; `seed` makes their ids hard to guess.
    #[must_use]
    pub fn new(slots: usize, seed: u64) -> Self {
        let inner = Inner { sessions: HashMap::new(), by_use: BTreeMap::new(), random: seed };
        Self { slots, inner: Mutex::new(inner) }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.lock().sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a fetch request apart: what is to be read, and what becomes of its session.
    ///
    /// # Errors
    /// The code for the whole answer: no such session, another epoch, or names and ids mixed.
    pub fn begin(
        &self,
        version: i16,
        (session_id, epoch): (i32, i32),
        items: Vec<FetchItem>,
        forgotten: &[(TopicKey, i32)],
        now_ms: i64,
    ) -> Result<FetchContext, ErrorCode> {
        let uses_topic_ids = version >= TOPIC_IDS_FROM;
        if epoch == FIRST_EPOCH || epoch == FINAL_EPOCH {
            if session_id != NO_SESSION {
                self.inner.lock().remove(session_id);
            }
            let kind = if epoch == FINAL_EPOCH { Kind::Sessionless } else { Kind::Full { uses_topic_ids } };
            return Ok(FetchContext { items, kind });
        }
        let session = self.inner.lock().touch(session_id, now_ms).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut locked = session.lock();
        if locked.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if locked.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        locked.update(items, forgotten);
        if locked.order.is_empty() {
            drop(locked);
            self.inner.lock().remove(session_id);
            return Ok(FetchContext { items: Vec::new(), kind: Kind::Sessionless });
        }
        locked.epoch = next_epoch(epoch);
        let items = locked.order.values().map(|cached| cached.item.clone()).collect();
        let epoch = locked.epoch;
        drop(locked);
        Ok(FetchContext { items, kind: Kind::Incremental { id: session_id, session, epoch } })
    }

    /// Ends a fetch whose items came to `outcomes`, one each, in order. Returns the session id for the
    /// answer, and which of the items it has to name.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidFetchSessionEpoch`]: another fetch used the session meanwhile.
    pub fn finish(
        &self,
        context: FetchContext,
        outcomes: &[Outcome],
        now_ms: i64,
    ) -> Result<(i32, Vec<bool>), ErrorCode> {
        assert!(context.items.len() == outcomes.len(), "one outcome for each item");
        let all = vec![true; outcomes.len()];
        match context.kind {
            Kind::Sessionless => Ok((NO_SESSION, all)),
            Kind::Full { uses_topic_ids } => {
                let session = Session::new(uses_topic_ids, context.items, outcomes);
                Ok((self.inner.lock().insert(self.slots, session, now_ms), all))
            }
            Kind::Incremental { id, session, epoch } => {
                let mut session = session.lock();
                if session.epoch != epoch {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                let items = context.items.iter().zip(outcomes);
                Ok((id, items.map(|(item, outcome)| session.record(item, outcome)).collect()))
            }
        }
    }
}

impl Inner {
    fn touch(&mut self, id: i32, now_ms: i64) -> Option<Arc<Mutex<Session>>> {
        let entry = self.sessions.get_mut(&id)?;
        self.by_use.remove(&(entry.used_ms, id));
        entry.used_ms = now_ms;
        self.by_use.insert((now_ms, id), ());
        Some(Arc::clone(&entry.session))
    }

    fn remove(&mut self, id: i32) {
        if let Some(entry) = self.sessions.remove(&id) {
            self.by_use.remove(&(entry.used_ms, id));
        }
    }

    /// The new session's id, or [`NO_SESSION`] where there is no room.
    fn insert(&mut self, slots: usize, session: Session, now_ms: i64) -> i32 {
        if self.sessions.len() >= slots {
            match self.by_use.first_key_value() {
                Some((&(used_ms, oldest), ())) if now_ms - used_ms > EVICTION_MS => self.remove(oldest),
                _ => return NO_SESSION,
            }
        }
        let id = self.unused_id();
        self.sessions.insert(id, Entry { session: Arc::new(Mutex::new(session)), used_ms: now_ms });
        self.by_use.insert((now_ms, id), ());
        id
    }

    fn unused_id(&mut self) -> i32 {
        loop {
            // SplitMix64: all that is asked is that neighbours do not collide.
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let id = i32::try_from(mixed >> 33).unwrap_or(i32::MAX);
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

impl Session {
    fn new(uses_topic_ids: bool, items: Vec<FetchItem>, outcomes: &[Outcome]) -> Self {
        let mut session = Self {
            epoch: next_epoch(FIRST_EPOCH),
            uses_topic_ids,
            order: BTreeMap::new(),
            index: HashMap::new(),
            next_order: 0,
        };
        for (item, outcome) in items.into_iter().zip(outcomes) {
            let mut cached = Cached::new(item);
            cached.tell(outcome);
            session.push(cached);
        }
        session
    }

    fn update(&mut self, items: Vec<FetchItem>, forgotten: &[(TopicKey, i32)]) {
        for item in items {
            let order = self.index.get(&(item.topic.clone(), item.partition));
            match order.and_then(|order| self.order.get_mut(order)) {
                Some(cached) => cached.item = item.remembered(),
                None => self.push(Cached::new(item)),
            }
        }
        for key in forgotten {
            if let Some(order) = self.index.remove(key) {
                self.order.remove(&order);
            }
        }
    }

    /// Notes what the client is told of `item`; whether there is anything to tell.
    fn record(&mut self, item: &FetchItem, outcome: &Outcome) -> bool {
        let key = (item.topic.clone(), item.partition);
        let Some(&order) = self.index.get(&key) else { return true };
        let Some(cached) = self.order.get_mut(&order) else { return true };
        let told = cached.tell(outcome);
        if outcome.records_len > 0
            && let Some(cached) = self.order.remove(&order)
        {
            self.push(cached);
        }
        told
    }

    fn push(&mut self, cached: Cached) {
        let order = self.next_order;
        self.next_order += 1;
        let key = (cached.item.topic.clone(), cached.item.partition);
        if let Some(previous) = self.index.insert(key, order) {
            self.order.remove(&previous);
        }
        self.order.insert(order, cached);
    }
}

impl FetchItem {
    /// A copy that does not keep the request's frame in memory.
    fn remembered(mut self) -> Self {
        self.topic.name = self.topic.name.detached();
        self
    }
}

impl Cached {
    fn new(item: FetchItem) -> Self {
        Self { item: item.remembered(), high_watermark: -1, log_start_offset: -1 }
    }

    /// Whether `outcome` is news, which it is no longer after this.
    fn tell(&mut self, outcome: &Outcome) -> bool {
        let mut news = outcome.records_len > 0;
        if outcome.high_watermark >= 0 && outcome.high_watermark != self.high_watermark {
            self.high_watermark = outcome.high_watermark;
            news = true;
        }
        if outcome.log_start_offset >= 0 && outcome.log_start_offset != self.log_start_offset {
            self.log_start_offset = outcome.log_start_offset;
            news = true;
        }
        if outcome.error_code != 0 || outcome.diverges {
            self.high_watermark = -1;
            news = true;
        }
        news
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(topic: &'static str, partition: i32, fetch_offset: i64) -> FetchItem {
        FetchItem {
            topic: TopicKey { name: Str::from(topic), id: Uuid::ZERO },
            partition,
            current_leader_epoch: -1,
            fetch_offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: 1 << 20,
        }
    }

    fn outcome(high_watermark: i64, records_len: usize) -> Outcome {
        Outcome { error_code: 0, high_watermark, log_start_offset: 0, records_len, diverges: false }
    }

    fn begin(
        cache: &SessionCache,
        ids: (i32, i32),
        items: Vec<FetchItem>,
    ) -> Result<FetchContext, ErrorCode> {
        cache.begin(12, ids, items, &[], 0)
    }

    /// A session over a-0 and b-0, both told.
    fn opened(cache: &SessionCache) -> i32 {
        let context = begin(cache, (0, 0), vec![item("a", 0, 0), item("b", 0, 0)]).unwrap();
        let (id, told) = cache.finish(context, &[outcome(5, 0), outcome(5, 0)], 0).unwrap();
        assert!(id > 0);
        assert_eq!(told, [true, true], "a full fetch is answered in full");
        id
    }

    #[test]
    fn an_incremental_answer_names_only_what_is_new() {
        let cache = SessionCache::new(10, 1);
        let id = opened(&cache);
        let context = begin(&cache, (id, 1), vec![]).unwrap();
        assert_eq!(context.items.len(), 2, "what was named before need not be named again");
        let (_, told) = cache.finish(context, &[outcome(5, 0), outcome(6, 100)], 0).unwrap();
        assert_eq!(told, [false, true]);

        let context = begin(&cache, (id, 2), vec![item("a", 0, 7)]).unwrap();
        assert_eq!(context.items[0], item("a", 0, 7), "who got records goes to the end");
        let error = Outcome { error_code: 3, ..outcome(-1, 0) };
        assert_eq!(cache.finish(context, &[error, outcome(6, 0)], 0).unwrap().1, [true, false]);
        let context = begin(&cache, (id, 3), vec![]).unwrap();
        let told = cache.finish(context, &[outcome(5, 0), outcome(6, 0)], 0).unwrap().1;
        assert_eq!(told, [true, false], "after an error everything is news");
    }

    #[test]
    fn a_session_knows_its_epoch_and_its_way_of_naming_topics() {
        let cache = SessionCache::new(10, 1);
        let id = opened(&cache);
        let refused = |result: Result<FetchContext, ErrorCode>| result.unwrap_err();
        assert_eq!(refused(begin(&cache, (id, 2), vec![])), ErrorCode::InvalidFetchSessionEpoch);
        assert_eq!(refused(begin(&cache, (id ^ 1, 1), vec![])), ErrorCode::FetchSessionIdNotFound);
        let with_ids = cache.begin(13, (id, 1), vec![], &[], 0);
        assert_eq!(refused(with_ids), ErrorCode::FetchSessionTopicIdError);
        let first = begin(&cache, (id, 1), vec![]).unwrap();
        let second = begin(&cache, (id, 2), vec![]).unwrap();
        let outcomes = [outcome(5, 0), outcome(5, 0)];
        assert_eq!(cache.finish(first, &outcomes, 0).unwrap_err(), ErrorCode::InvalidFetchSessionEpoch);
        assert!(cache.finish(second, &outcomes, 0).is_ok());
    }

    #[test]
    fn a_session_ends_when_it_is_closed_or_empty() {
        let cache = SessionCache::new(10, 1);
        let id = opened(&cache);
        assert!(begin(&cache, (id, FINAL_EPOCH), vec![]).unwrap().items.is_empty());
        assert!(cache.is_empty());
        let id = opened(&cache);
        let forgotten: Vec<_> = ["a", "b"].map(|t| (item(t, 0, 0).topic, 0)).into();
        let context = cache.begin(12, (id, 1), vec![], &forgotten, 0).unwrap();
        assert_eq!(cache.finish(context, &[], 0).unwrap(), (0, vec![]));
        assert!(cache.is_empty());
    }

    #[test]
    fn a_full_cache_gives_up_only_what_is_long_unused() {
        let cache = SessionCache::new(1, 1);
        let id = opened(&cache);
        let open_at = |now_ms| {
            let context = cache.begin(12, (0, 0), vec![item("c", 0, 0)], &[], now_ms).unwrap();
            cache.finish(context, &[outcome(0, 0)], now_ms).unwrap().0
        };
        assert_eq!(open_at(EVICTION_MS), 0, "the client goes on without a session");
        assert!(open_at(EVICTION_MS + 1) > 0);
        assert_eq!(begin(&cache, (id, 1), vec![]).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
    }

    #[test]
    fn epochs_wrap_past_the_reserved_ones() {
        assert_eq!(next_epoch(i32::MAX), 1);
        assert_eq!(next_epoch(0), 1);
    }
}
