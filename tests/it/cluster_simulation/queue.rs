//! What is going to happen, in the order of time: a heap of small keys, the events themselves beside it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use klamm::controller::quorum::{CallFailure, Request, Response};
use klamm::controller::{Question, Reply};

use super::replica::{Asked, Body};

/// Something that happens at a node, or to the world.
pub enum Event {
    /// The quorum's clock, or the controller's.
    Tick { node: usize, life: u32 },
    /// A request between nodes of the quorum.
    Ask { from: usize, from_life: u32, to: usize, to_life: u32, call: u64, request: Box<Request> },
    /// Its answer, or that there is none.
    Answer { to: usize, life: u32, call: u64, response: Box<Result<Response, CallFailure>> },
    /// A broker asks the active controller.
    Question { from: usize, from_life: u32, to: usize, number: u64, question: Box<Question> },
    /// What it was answered; `None` by one who is not in office.
    Reply { to: usize, life: u32, number: u64, reply: Box<Option<Reply>> },
    /// A broker's registration or heartbeat is due.
    Beat { node: usize, life: u32 },
    /// A broker follows what was published.
    Apply { node: usize, life: u32 },
    /// A leader looks for followers that lag.
    Look { node: usize, life: u32 },
    /// A leader sends what it proposes.
    Propose { node: usize, life: u32, number: u64 },
    /// A follower fetches, if it is still its turn.
    Turn { node: usize, life: u32, partition: usize, turn: u32 },
    /// Its fetch arrives at the leader.
    Fetch { from: usize, to: usize, asked: Asked },
    /// And the answer at the follower.
    Fetched { from: usize, from_life: u32, to: usize, life: u32, partition: usize, number: u64, body: Body },
    /// A client writes to whoever leads.
    Produce { partition: usize },
    /// The controller looks whether a follower that fetched should come in (a mistake of two steps).
    Judge { node: usize, life: u32, asked: Asked },
    /// Somebody's process is gone, and the active controller hears of it.
    Lost { node: usize },
    /// A process begins again.
    Restart { node: usize },
    /// A machine loses its power while its process begins, if it still does.
    FailStart { node: usize, life: u32 },
    /// Who leads what a machine that lost its power has missed is killed, once the controller knows of the machine.
    Pursue { node: usize },
    /// Two replicas that do not hear each other take turns in leading a partition, so many times more.
    Swap { partition: usize, between: (i32, i32), left: u32 },
    /// Logs are flushed and checkpoints written.
    Flush { node: usize, life: u32 },
    /// Somebody administrates.
    Admin,
    /// Something goes wrong.
    Fault,
}

/// See the module.
#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<(i64, u32, u32)>>,
    events: Vec<Option<Event>>,
    free: Vec<u32>,
    order: u32,
}

impl Queue {
    pub fn push(&mut self, at: i64, event: Event) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.events[slot as usize] = Some(event);
                slot
            }
            None => {
                self.events.push(Some(event));
                self.events.len() as u32 - 1
            }
        };
        self.order += 1;
        self.heap.push(Reverse((at, self.order, slot)));
    }

    pub fn pop(&mut self) -> Option<(i64, Event)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        Some((at, self.events[slot as usize].take()?))
    }
}
