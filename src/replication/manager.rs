//! The partitions of this broker: what the image says there should be, made, led and deleted.
//!
//! [`Partitions::apply`] is called with one image after the other, by one caller; lookups go on meanwhile. A
//! partition is in the map when its log is open, and gone from it before its folder is renamed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::partition::Partition;
use super::recoveries::Recoveries;
use super::settings::log_options;
use super::surroundings::Surroundings;
use crate::config::{BrokerConfig, TopicConfig};
use crate::metadata::{ConfigResource, Image, PartitionRegistration, ReplicaDirectory, Topic as TopicImage};
use crate::protocol::Str;
use crate::storage::{Log, LogDirectories, LogDirectory, LogPoint, PlannedLog, Recovered, StorageError};
use crate::types::{BrokerId, Clock, Offset, TopicName, TopicPartition, Uuid};

/// A topic as requests look it up.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Its name as messages carry it.
    pub text: Str,
    /// Its id.
    pub id: Uuid,
    slots: Vec<Slot>,
}

#[derive(Debug, Clone)]
enum Slot {
    /// Not on this broker, or not made yet.
    Missing,
    /// Its log directory has failed, or its log could not be opened.
    Offline,
    Here(Arc<Partition>),
}

impl Topic {
    /// The partition, if it is here and its log is open.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        match self.slot(index)? {
            Slot::Here(partition) => Some(partition),
            Slot::Missing | Slot::Offline => None,
        }
    }

    /// Whether the partition belongs here, but its log cannot be used.
    #[must_use]
    pub fn is_offline(&self, index: i32) -> bool {
        matches!(self.slot(index), Some(Slot::Offline))
    }

    fn slot(&self, index: i32) -> Option<&Slot> {
        self.slots.get(usize::try_from(index).ok()?)
    }

    fn here(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.slots
            .iter()
            .filter_map(|slot| if let Slot::Here(partition) = slot { Some(partition) } else { None })
    }
}

#[derive(Debug, Default)]
struct Map {
    by_name: HashMap<Str, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

/// All partitions of this broker.
pub struct Partitions {
    node: BrokerId,
    surroundings: Arc<Surroundings>,
    directories: Arc<LogDirectories>,
    clock: Arc<dyn Clock>,
    map: RwLock<Map>,
    applied: watch::Sender<Offset>,
    last: Mutex<Option<Applied>>,
    /// Held while checkpoints are written, and taken before any partition's lock.
    checkpointing: Mutex<()>,
    /// Whether a topic has ever asked for `flush.ms`.
    flushes_by_time: AtomicBool,
    /// Whether a topic was ever compacted.
    compacts: AtomicBool,
    /// Replicas that lie elsewhere than the image says.
    misplaced: Mutex<Vec<ReplicaDirectory>>,
    /// Partitions whose role has changed.
    changed: Mutex<Vec<Arc<Partition>>>,
}

/// The settings in force of each topic, resolved once for all of its partitions.
type Settings = HashMap<Uuid, Arc<TopicConfig>>;

/// What was applied last.
struct Applied {
    image: Arc<Image>,
    config: Arc<BrokerConfig>,
}

impl std::fmt::Debug for Partitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partitions of node {}", self.node)
    }
}

impl Partitions {
    /// Opens the logs that are on the disk, on `threads` threads, and makes those that `image` has besides.
    /// A folder that no topic of the image owns is renamed to `…-stray`.
    ///
    /// # Errors
    /// A partition lies in two directories.
    pub fn open(
        node: BrokerId,
        directories: Arc<LogDirectories>,
        clock: Arc<dyn Clock>,
        image: Arc<Image>,
        config: Arc<BrokerConfig>,
        threads: usize,
    ) -> Result<Self, StorageError> {
        let assigned = |id: &TopicPartition| {
            let registration = image.partition(id.topic.as_str(), id.partition)?;
            Some(registration.directory_of(node.0)).filter(|directory| !directory.is_reserved())
        };
        let planned = directories.plan_assigned(clock.now_ms(), assigned, &mut random_id)?;
        let (moving, planned): (Vec<_>, Vec<_>) = planned.into_iter().partition(PlannedLog::is_future);
        let surroundings = Arc::new(Surroundings::new(node, Arc::clone(&clock)));
        surroundings.follow(&image, &config);
        let partitions = Self {
            node,
            surroundings,
            directories,
            clock,
            map: RwLock::default(),
            applied: watch::Sender::new(Offset::UNKNOWN),
            last: Mutex::new(None),
            checkpointing: Mutex::default(),
            flushes_by_time: AtomicBool::new(false),
            compacts: AtomicBool::new(false),
            misplaced: Mutex::default(),
            changed: Mutex::default(),
        };
        let settings: Settings = image
            .topics()
            .iter()
            .map(|topic| (topic.id, Arc::new(partitions.settings_of(&image, &config, &topic.name))))
            .collect();
        let found = partitions.open_all(&image, &config, &settings, planned, threads);
        for topic in image.topics().iter() {
            partitions.put(partitions.first_look(&config, &settings, topic, &found));
        }
        moving.into_iter().for_each(|planned| partitions.resume_move(&config, planned));
        partitions.finish(image, config);
        Ok(partitions)
    }

    /// Goes on with a move between directories that a stop has interrupted.
    fn resume_move(&self, config: &BrokerConfig, planned: PlannedLog) {
        let id = planned.partition().clone();
        let topic = self.topic(id.topic.as_str());
        let Some(partition) = topic.as_ref().and_then(|topic| topic.partition(id.partition)) else {
            // Where the current log is offline this is the better half of it: it stays.
            if !topic.is_some_and(|topic| topic.is_offline(id.partition)) {
                match planned.put_away_as_stray(random_id()) {
                    Ok(path) => warn!(partition = %id, "no topic owns it; moved to {}", path.display()),
                    Err(error) => {
                        error!(partition = %id, "no topic owns it, and it cannot be moved: {error}");
                    }
                }
            }
            return;
        };
        let now_ms = self.clock.now_ms();
        if *planned.directory().path() == **partition.directory() {
            if let Err(error) = planned.put_away_for_delete(random_id(), now_ms) {
                error!(partition = %id, "it is in its directory already; the other log cannot be removed: {error}");
            }
            return;
        }
        let options = log_options(&partition.config(), config.producer_id_expiration_ms);
        match planned.open(options, now_ms) {
            Ok((future, _)) => drop(partition.begin_move(future)),
            Err(error) => error!(partition = %id, "its move to another directory cannot go on: {error}"),
        }
    }

    /// Removes a log that nobody asks any more: one that a partition has left, or did not reach.
    ///
    /// # Errors
    /// Its disk failed.
    pub fn remove_log(&self, log: &mut Log) -> Result<(), StorageError> {
        self.directories.delete_log(log, random_id(), self.clock.now_ms())
    }

    /// Begins to move a partition's log into `directory`; another move of it is given up.
    ///
    /// # Errors
    /// The disk failed, or the topic's name is too long for it.
    pub fn begin_move(
        &self,
        partition: &Partition,
        directory: &LogDirectory,
        config: &BrokerConfig,
    ) -> Result<(), StorageError> {
        let options = log_options(&partition.config(), config.producer_id_expiration_ms);
        let (id, topic_id) = (partition.id().clone(), partition.topic_id());
        let now_ms = self.clock.now_ms();
        let future = directory.create_future_log(id, topic_id, options, random_id(), now_ms)?;
        match partition.begin_move(future) {
            Some(mut other) => self.remove_log(&mut other),
            None => Ok(()),
        }
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.map.read().by_name.get(name).cloned()
    }

    /// The topic of this id.
    #[must_use]
    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.map.read().by_id.get(&id).cloned()
    }

    /// Every partition whose log is open.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.map.read().by_name.values().flat_map(|topic| topic.here().cloned().collect::<Vec<_>>()).collect()
    }

    /// Whether any log is to be flushed by the clock.
    #[must_use]
    pub fn flushes_by_time(&self) -> bool {
        self.flushes_by_time.load(Ordering::Relaxed)
    }

    /// Whether any log may have to be compacted.
    #[must_use]
    pub fn compacts(&self) -> bool {
        self.compacts.load(Ordering::Relaxed)
    }

    /// The replicas that were found or made elsewhere than the image says, since this was last asked: the
    /// controller is to be told.
    #[must_use]
    pub fn take_misplaced(&self) -> Vec<ReplicaDirectory> {
        std::mem::take(&mut *self.misplaced.lock())
    }

    /// The partitions whose role has changed since this was last asked: whoever fetches for them begins or ends.
    #[must_use]
    pub fn take_changed(&self) -> Vec<Arc<Partition>> {
        std::mem::take(&mut *self.changed.lock())
    }

    /// What all partitions look at.
    #[must_use]
    pub fn surroundings(&self) -> &Arc<Surroundings> {
        &self.surroundings
    }

    /// Gives a partition its role.
    fn assume(&self, partition: &Arc<Partition>, registration: &PartitionRegistration) {
        if partition.assume(registration) {
            self.changed.lock().push(Arc::clone(partition));
        }
    }

    /// Holds a log, with the role that the image gives.
    fn hold(
        &self,
        id: &TopicPartition,
        topic: &TopicImage,
        registration: &PartitionRegistration,
        settings: Arc<TopicConfig>,
        log: Log,
    ) -> Arc<Partition> {
        let surroundings = Arc::clone(&self.surroundings);
        let partition = Arc::new(Partition::new(id.clone(), topic.id, surroundings, settings, log));
        self.assume(&partition, registration);
        partition
    }

    /// Notes where the log of a replica lies, if that is not where the image has it.
    fn note_directory(&self, topic: &TopicImage, index: i32, registered: &PartitionRegistration, log: &Log) {
        let Some(directory) = self.directories.of(log).and_then(|directory| directory.id()) else { return };
        if registered.directory_of(self.node.0) != directory {
            let replica = ReplicaDirectory { topic_id: topic.id, partition: index, directory };
            self.misplaced.lock().push(replica);
        }
    }

    /// The end offset of the image that was applied last; changes when the next one was.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Offset> {
        self.applied.subscribe()
    }

    /// Makes, changes and deletes what differs from the image before.
    pub fn apply(&self, image: Arc<Image>, config: Arc<BrokerConfig>) {
        self.surroundings.follow(&image, &config);
        let Some(before) = self.last.lock().take() else { return self.finish(image, config) };
        for gone in before.image.topics().iter().filter(|topic| image.topic_by_id(topic.id).is_none()) {
            self.delete(gone);
        }
        let all_settings_changed = !Arc::ptr_eq(&before.config, &config);
        let shares_settings = image.shares_configs_with(&before.image);
        for topic in image.topics().iter() {
            let known = before.image.topic_by_id(topic.id);
            if known.is_none_or(|known| !Arc::ptr_eq(known, topic)) {
                self.follow(&image, &config, topic);
            }
            let may_differ = known.is_some() && !shares_settings;
            if known.is_some() && all_settings_changed
                || may_differ && settings_differ(&before.image, &image, &topic.name)
            {
                self.set_config(&image, &config, topic);
            }
        }
        self.finish(image, config);
    }

    fn finish(&self, image: Arc<Image>, config: Arc<BrokerConfig>) {
        let end = image.end_offset();
        *self.last.lock() = Some(Applied { image, config });
        self.applied.send_replace(end);
    }

    /// Marks the partitions of failed directories offline. Returns how many directories still work.
    pub fn drop_failed_directories(&self) -> usize {
        let failed: Vec<&Path> = self
            .directories
            .all()
            .iter()
            .filter(|d| d.health().failure().is_some())
            .map(|d| d.path())
            .collect();
        for partition in self.all() {
            if failed.contains(&partition.directory().as_path()) {
                partition.set_offline();
            }
            if partition.future_directory().is_some_and(|directory| failed.contains(&directory.as_path())) {
                warn!(partition = %partition.id(), "its move ends: the directory it was to go to has failed");
                partition.cancel_move();
            }
        }
        self.directories.all().len() - failed.len()
    }

    /// Closes every log so that the next start reads none of them, on `threads` threads; returns what the
    /// checkpoints are to say. Logs that cannot be closed leave their directory unclean.
    #[must_use]
    pub fn close(&self, threads: usize) -> Vec<LogPoint> {
        let points = Mutex::new(Vec::new());
        each(self.all(), threads, |partition| {
            let point = partition.with_log_alone(|log| {
                if let Err(error) = log.close_clean() {
                    error!(partition = %partition.id(), "cannot be closed: {error}");
                }
                log.point()
            });
            points.lock().push(point);
            if let Some(mut future) = partition.cancel_move() {
                if let Err(error) = future.close_clean() {
                    error!(partition = %partition.id(), "its log in another directory cannot be closed: {error}");
                }
                points.lock().push(future.point());
            }
        });
        points.into_inner()
    }

    /// What the checkpoints say of the logs now.
    #[must_use]
    pub fn points(&self) -> Vec<LogPoint> {
        self.with_points(None, |points| points)
    }

    /// Runs `write` with what the checkpoints say of all logs `but` one. Nobody else writes them meanwhile: an
    /// older checkpoint must not take the place of a newer one.
    pub fn with_points<T>(&self, but: Option<&Partition>, write: impl FnOnce(Vec<LogPoint>) -> T) -> T {
        let _alone = self.checkpointing.lock();
        let mut points = Vec::new();
        let is_meant = |partition: &Arc<Partition>| {
            partition.check_online().is_ok()
                && !but.is_some_and(|but| std::ptr::eq(but, Arc::as_ptr(partition)))
        };
        for partition in self.all().into_iter().filter(is_meant) {
            points.push(partition.with_log_anyway(|log| log.point()));
            points.extend(partition.future_point());
        }
        write(points)
    }

    fn open_all(
        &self,
        image: &Image,
        config: &BrokerConfig,
        settings: &Settings,
        planned: Vec<PlannedLog>,
        threads: usize,
    ) -> BTreeMap<TopicPartition, Slot> {
        let found = Mutex::new(BTreeMap::new());
        let recoveries = Mutex::new(Recoveries::default());
        let begun = self.clock.elapsed();
        each(planned, threads, |planned| {
            let id = planned.partition().clone();
            let unclean = Some(planned.directory()).filter(|it| it.clean_broker_epoch().is_none()).cloned();
            let note = |recovered: &Recovered| {
                if let Some(directory) = &unclean {
                    recoveries.lock().note(directory.path(), recovered);
                }
            };
            if let Some(slot) = self.open_one(image, config, settings, planned, note) {
                found.lock().insert(id, slot);
            }
        });
        let took_ms = (self.clock.elapsed() - begun).as_millis();
        for (directory, recovery) in recoveries.into_inner().by_directory() {
            let directory = directory.display();
            info!(%directory, "recovered after a stop that was not clean: {recovery} in {took_ms} ms");
        }
        found.into_inner()
    }

    /// Opens a log that lies on the disk; `None` where it is nobody's.
    fn open_one(
        &self,
        image: &Image,
        config: &BrokerConfig,
        settings: &Settings,
        planned: PlannedLog,
        note: impl FnOnce(&Recovered),
    ) -> Option<Slot> {
        let id = planned.partition().clone();
        let owner = match planned.topic_id() {
            Ok(Some(topic_id)) => image.topic_by_id(topic_id).filter(|topic| topic.name == id.topic),
            // The id is on the disk before a batch is: a log with batches and without an id is another topic's,
            // deleted and back after a power cut.
            Ok(None) if planned.is_untouched().unwrap_or(true) => image.topic(id.topic.as_str()),
            Ok(None) => None,
            Err(error) => {
                error!(partition = %id, "cannot be opened: {error}");
                return Some(Slot::Offline);
            }
        };
        let owned = owner.and_then(|topic| Some((topic, topic.partitions.get(&id.partition)?)));
        let Some((topic, registration)) = owned.filter(|(_, it)| it.replicas.contains(&self.node.0)) else {
            match planned.put_away_as_stray(random_id()) {
                Ok(path) => warn!(partition = %id, "no topic owns it; moved to {}", path.display()),
                Err(error) => error!(partition = %id, "no topic owns it, and it cannot be moved: {error}"),
            }
            return None;
        };
        let settings = settings.get(&topic.id).cloned().unwrap_or_default();
        let options = log_options(&settings, config.producer_id_expiration_ms);
        let opened = planned.open(options, self.clock.now_ms()).and_then(|(mut log, recovered)| {
            note(&recovered);
            info_recovered(&id, &recovered);
            log.assign_topic_id(topic.id)?;
            self.note_directory(topic, id.partition, registration, &log);
            Ok(self.hold(&id, topic, registration, settings, log))
        });
        Some(match opened {
            Ok(partition) => Slot::Here(partition),
            Err(error) => {
                error!(partition = %id, "cannot be opened: {error}");
                Slot::Offline
            }
        })
    }

    /// A topic at the start: opened logs, and new ones where none can be lost by making them.
    fn first_look(
        &self,
        config: &BrokerConfig,
        settings: &Settings,
        topic: &TopicImage,
        found: &BTreeMap<TopicPartition, Slot>,
    ) -> Topic {
        let settings = settings.get(&topic.id).cloned().unwrap_or_default();
        self.build(topic, |index, registration| {
            let id = TopicPartition::new(topic.name.clone(), index);
            match found.get(&id) {
                Some(slot) => slot.clone(),
                None if self.may_be_elsewhere(registration) => Slot::Offline,
                None => self.make(topic, &id, registration, &settings, config),
            }
        })
    }

    /// Whether the log may lie in a directory that is offline now: then no new one is made. Where every directory
    /// works and another broker leads, the one that is missing was wiped, and what it held is fetched anew.
    fn may_be_elsewhere(&self, registration: &PartitionRegistration) -> bool {
        let directory = registration.directory_of(self.node.0);
        if directory.is_reserved() {
            return !self.directories.failed().is_empty();
        }
        let is_known = self.directories.all().iter().any(|known| known.id() == Some(directory));
        let can_be_fetched = registration.leader >= 0 && registration.leader != self.node.0;
        let is_wiped = can_be_fetched && self.directories.failed().is_empty();
        !is_known && !is_wiped
    }

    /// A topic that is new or has changed.
    fn follow(&self, image: &Image, config: &BrokerConfig, topic: &TopicImage) {
        let current = self.topic_by_id(topic.id);
        let settings = Arc::new(self.settings_of(image, config, &topic.name));
        let next = self.build(topic, |index, registration| {
            let slot = current.as_ref().and_then(|topic| topic.slot(index)).cloned();
            match slot {
                Some(Slot::Here(partition)) => {
                    self.assume(&partition, registration);
                    Slot::Here(partition)
                }
                Some(Slot::Offline) => Slot::Offline,
                Some(Slot::Missing) | None => {
                    let id = TopicPartition::new(topic.name.clone(), index);
                    self.make(topic, &id, registration, &settings, config)
                }
            }
        });
        let gone = current.iter().flat_map(|topic| topic.slots.iter().enumerate());
        let gone: Vec<_> = gone
            .filter_map(|(index, slot)| match (slot, next.slots.get(index)) {
                (Slot::Here(partition), None | Some(Slot::Missing)) => Some(Arc::clone(partition)),
                _ => None,
            })
            .collect();
        self.put(next);
        // Their replicas belong elsewhere now.
        if !gone.is_empty() {
            gone.iter().for_each(|partition| self.discard(partition));
            self.directories.sync_names();
        }
    }

    fn build(&self, topic: &TopicImage, mut slot: impl FnMut(i32, &PartitionRegistration) -> Slot) -> Topic {
        let count = topic.partitions.last_key_value().map_or(0, |(index, _)| index + 1);
        let slots = (0..count).map(|index| match topic.partitions.get(&index) {
            Some(registration) if registration.replicas.contains(&self.node.0) => slot(index, registration),
            _ => Slot::Missing,
        });
        let slots = slots.collect();
        Topic { name: topic.name.clone(), text: Str::from(topic.name.as_str()), id: topic.id, slots }
    }

    fn make(
        &self,
        topic: &TopicImage,
        id: &TopicPartition,
        registration: &PartitionRegistration,
        settings: &Arc<TopicConfig>,
        config: &BrokerConfig,
    ) -> Slot {
        let options = log_options(settings, config.producer_id_expiration_ms);
        let wanted = registration.directory_of(self.node.0);
        let directory = self.directories.all().iter().find(|known| known.id() == Some(wanted));
        let now_ms = self.clock.now_ms();
        let log = match directory {
            Some(directory) => directory.create_log(id.clone(), Some(topic.id), options, now_ms),
            None => self.directories.create_log(id.clone(), Some(topic.id), options, now_ms),
        };
        match log {
            Ok(log) => {
                self.note_directory(topic, id.partition, registration, &log);
                Slot::Here(self.hold(id, topic, registration, Arc::clone(settings), log))
            }
            Err(error) => {
                error!(partition = %id, "cannot be made: {error}");
                Slot::Offline
            }
        }
    }

    fn put(&self, topic: Topic) {
        let topic = Arc::new(topic);
        let mut map = self.map.write();
        map.by_id.insert(topic.id, Arc::clone(&topic));
        map.by_name.insert(topic.text.clone(), topic);
    }

    fn set_config(&self, image: &Image, config: &BrokerConfig, topic: &TopicImage) {
        let settings = Arc::new(self.settings_of(image, config, &topic.name));
        let options = log_options(&settings, config.producer_id_expiration_ms);
        for partition in self.topic_by_id(topic.id).iter().flat_map(|topic| topic.here()) {
            partition.set_config(Arc::clone(&settings), options);
        }
    }

    /// A topic's settings in force. What a later version wrote and this one cannot read is passed over.
    fn settings_of(&self, image: &Image, config: &BrokerConfig, name: &TopicName) -> TopicConfig {
        let overrides = image.configs(&ConfigResource::topic(name.as_str()));
        let settings = match overrides.is_empty() {
            true => config.topic_defaults.clone(),
            false => TopicConfig::resolve(config, &overrides).unwrap_or_else(|error| {
                warn!(topic = %name, "its settings are passed over: {error}");
                config.topic_defaults.clone()
            }),
        };
        if settings.flush_ms < i64::MAX {
            self.flushes_by_time.store(true, Ordering::Relaxed);
        }
        if settings.cleanup_policy.compact {
            self.compacts.store(true, Ordering::Relaxed);
        }
        settings
    }

    fn delete(&self, topic: &TopicImage) {
        let mut map = self.map.write();
        let removed = map.by_id.remove(&topic.id);
        // A new topic of that name may be there already.
        if map.by_name.get(topic.name.as_str()).is_some_and(|current| current.id == topic.id) {
            map.by_name.remove(topic.name.as_str());
        }
        drop(map);
        let Some(removed) = removed else { return };
        removed.here().for_each(|partition| self.discard(partition));
        self.directories.sync_names();
    }

    /// Removes a replica that is not in the map any more.
    fn discard(&self, partition: &Arc<Partition>) {
        partition.set_deleted();
        self.changed.lock().push(Arc::clone(partition));
        let renamed = partition
            .with_log_alone(|log| self.directories.delete_log(log, random_id(), self.clock.now_ms()));
        let future = partition.cancel_move().map_or(Ok(()), |mut future| self.remove_log(&mut future));
        if let Err(error) = renamed.and(future) {
            error!(partition = %partition.id(), "cannot be deleted: {error}");
        }
    }
}

fn settings_differ(before: &Image, after: &Image, topic: &TopicName) -> bool {
    let resource = ConfigResource::topic(topic.as_str());
    before.configs(&resource) != after.configs(&resource)
}

fn info_recovered(id: &TopicPartition, recovered: &Recovered) {
    if let Some(fault) = &recovered.fault {
        info!(partition = %id, bytes = recovered.bytes_cut, "recovered; cut off behind the last whole batch: {fault}");
    }
}

/// Runs `act` for each item on up to `threads` threads.
fn each<T: Send>(items: Vec<T>, threads: usize, act: impl Fn(T) + Sync) {
    const WORTH_A_THREAD: usize = 8;
    let threads = threads.min(items.len().div_ceil(WORTH_A_THREAD));
    if threads <= 1 {
        return items.into_iter().for_each(act);
    }
    let queue = Mutex::new(VecDeque::from(items));
    let next = || queue.lock().pop_front();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = next() {
                    act(item);
                }
            });
        }
    });
}

/// An id that no other folder has.
fn random_id() -> Uuid {
    let mut bytes = [0; 16];
    // Without randomness the zero id still makes a legal name; a clash is an error of the rename.
    let _ = getrandom::fill(&mut bytes);
    Uuid::from_random_bytes(bytes)
}
