//! A machine: a disk with the metadata log and the replicas, and a process on it that is a node of the quorum and a
//! broker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use klamm::controller::Term;
use klamm::controller::quorum::Quorum;
use klamm::metadata::Image;
use klamm::protocol::messages::broker_registration_request::{BrokerRegistrationRequest, Feature, Listener};
use klamm::replication::{Proposal, Standing};
use klamm::types::{Offset, Uuid};

use super::replica::Replica;
use crate::quorum::log::{Directory, MemoryLog};

/// Who asked the active controller, and is answered once it is agreed on.
#[derive(Debug)]
pub struct Waiter {
    /// `None`: nobody waits.
    pub who: Option<(usize, u32, u64)>,
    pub reply: klamm::controller::Reply,
}

/// Where a broker's life stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// It asks to be registered.
    Registering,
    /// It is, and waits until its image says so.
    Registered(i64),
    /// It serves, or would if it were not fenced.
    Running(i64),
}

pub struct Node {
    pub directory: Rc<RefCell<Directory>>,
    pub directory_id: Uuid,
    /// The id of the directory with the replicas.
    pub data_id: Uuid,
    /// The broker epoch of the last clean stop.
    pub clean_mark: Option<i64>,
    pub replicas: Vec<Option<Replica>>,

    pub quorum: Option<Quorum<MemoryLog>>,
    /// Connections of an older process are gone.
    pub life_number: u32,
    /// The same for its part in the quorum, which may begin anew in a process that goes on.
    pub quorum_life: u32,
    /// The event with which it was registered last after it had ended uncleanly.
    pub unclean_start: Option<u64>,
    /// The last life that has ended: no ISR that it asked for is taken afterwards.
    pub ended_life: u32,
    pub paused_until: i64,
    pub skew_ms: i64,
    /// How many times slower than others it is.
    pub slowness: i64,
    pub next_tick: i64,
    pub high_watermark: Offset,
    /// How many batches of the metadata it knows to be agreed on.
    pub agreed: usize,
    pub image: Arc<Image>,
    pub term: Option<Term<Waiter>>,

    pub life: Life,
    pub incarnation: Uuid,
    pub previous_epoch: i64,
    pub applied: Arc<Image>,
    pub standings: Vec<Option<Standing>>,
    pub is_applying: bool,
    /// Its replicas are open.
    pub is_open: bool,
    pub wants_stop: bool,
    /// Its last request for an ISR, while it waits for the answer.
    pub isr_number: u64,
    /// Partitions, by bit, that have something to propose.
    pub proposing: u32,
    pub proposed: Vec<(usize, Proposal)>,
}

impl Node {
    pub fn new(directory: Directory, directory_id: Uuid, data_id: Uuid, partitions: usize) -> Self {
        Self {
            directory: Rc::new(RefCell::new(directory)),
            directory_id,
            data_id,
            clean_mark: None,
            replicas: (0..partitions).map(|_| None).collect(),
            quorum: None,
            life_number: 0,
            quorum_life: 0,
            unclean_start: None,
            ended_life: 0,
            paused_until: 0,
            skew_ms: 0,
            slowness: 1,
            next_tick: i64::MAX,
            high_watermark: Offset::ZERO,
            agreed: 0,
            image: Arc::default(),
            term: None,
            life: Life::Registering,
            incarnation: Uuid::ZERO,
            previous_epoch: -1,
            applied: Arc::default(),
            standings: Vec::new(),
            is_applying: false,
            is_open: false,
            wants_stop: false,
            isr_number: 0,
            proposing: 0,
            proposed: Vec::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.quorum.is_some()
    }

    /// The epoch of the broker, where it runs.
    pub fn broker_epoch(&self) -> Option<i64> {
        match self.life {
            Life::Running(epoch) if self.is_up() => Some(epoch),
            _ => None,
        }
    }

    pub fn registration(&self, id: i32, cluster_id: &str) -> BrokerRegistrationRequest {
        let feature = |(name, min, max): (&'static str, i16, i16)| Feature {
            name: name.into(),
            min_supported_version: min,
            max_supported_version: max,
            ..Feature::default()
        };
        let features = klamm::controller::supported_features().map(feature);
        BrokerRegistrationRequest {
            broker_id: id,
            cluster_id: cluster_id.into(),
            incarnation_id: self.incarnation,
            listeners: vec![Listener {
                name: "PLAINTEXT".into(),
                host: "node".into(),
                port: 9092,
                ..Listener::default()
            }],
            features: features.filter(|feature| &*feature.name != "kraft.version").collect(),
            rack: None,
            log_dirs: vec![self.data_id],
            previous_broker_epoch: self.previous_epoch,
            ..BrokerRegistrationRequest::default()
        }
    }
}
