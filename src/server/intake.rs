//! The order of appends on one connection.
//!
//! Appends happen in the order of arrival. A request that has to wait *before* its append (its partition is
//! being made, a transaction is to be verified) holds later appends of its connection to the same partitions,
//! and only those.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// A partition as the intake tells it from others: any number that is the same for the same partition.
pub type Place = u64;

/// What a request waits for before it may append.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The requests of one connection that wait before their appends.
#[derive(Debug, Default, Clone)]
pub struct Intake {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    next_number: u64,
    /// In the order of arrival.
    tickets: Vec<Ticket>,
}

#[derive(Debug)]
struct Ticket {
    number: u64,
    places: Vec<Place>,
    waker: Option<Waker>,
}

/// Resolves when a request may append. Its partitions are held until it is dropped: after the append.
pub struct Turn {
    held: Arc<Mutex<Held>>,
    number: u64,
    wait: Option<Wait>,
}

impl Intake {
    /// Queues a request that will append to `places`. `None`: it may do so at once.
    #[must_use]
    pub fn enter(&self, places: Vec<Place>, wait: Option<Wait>) -> Option<Turn> {
        let mut held = self.held.lock();
        let is_behind = |ticket: &Ticket| ticket.places.iter().any(|place| places.contains(place));
        if wait.is_none() && !held.tickets.iter().any(is_behind) {
            return None;
        }
        let number = held.next_number;
        held.next_number += 1;
        held.tickets.push(Ticket { number, places, waker: None });
        Some(Turn { held: Arc::clone(&self.held), number, wait })
    }

    /// Whether nothing waits: then a request without a wait of its own need not be queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.lock().tickets.is_empty()
    }
}

impl Held {
    /// Whether an older ticket holds one of the places of `number`.
    fn is_behind(&self, number: u64) -> bool {
        let Some(at) = self.tickets.iter().position(|ticket| ticket.number == number) else { return false };
        let (older, own) = (&self.tickets[..at], &self.tickets[at].places);
        older.iter().any(|ticket| ticket.places.iter().any(|place| own.contains(place)))
    }
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            match wait.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => self.wait = None,
            }
        }
        let mut held = self.held.lock();
        if !held.is_behind(self.number) {
            return Poll::Ready(());
        }
        let number = self.number;
        if let Some(ticket) = held.tickets.iter_mut().find(|ticket| ticket.number == number) {
            ticket.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        held.tickets.retain(|ticket| ticket.number != self.number);
        let wakers: Vec<Waker> = held.tickets.iter_mut().filter_map(|ticket| ticket.waker.take()).collect();
        drop(held);
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn is_ready(turn: &mut Turn) -> bool {
        Pin::new(turn).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn wait() -> (oneshot::Sender<()>, Option<Wait>) {
        let (sender, receiver) = oneshot::channel();
        let wait: Wait = Box::pin(async move {
            let _ = receiver.await;
        });
        (sender, Some(wait))
    }

    #[test]
    fn a_request_that_waits_holds_its_partitions_and_no_others() {
        let intake = Intake::default();
        assert!(intake.enter(vec![1], None).is_none(), "nothing is in the way");
        let (done, first_wait) = wait();
        let mut first = intake.enter(vec![1, 2], first_wait).unwrap();
        assert!(intake.enter(vec![3], None).is_none());
        let mut second = intake.enter(vec![2], None).unwrap();
        let mut third = intake.enter(vec![2, 3], None).unwrap();
        assert!(intake.enter(vec![3], None).is_some(), "the third holds its other partition as well");
        assert!(!is_ready(&mut first) && !is_ready(&mut second) && !is_ready(&mut third));
        done.send(()).unwrap();
        assert!(is_ready(&mut first) && !is_ready(&mut second));
        drop(first);
        assert!(is_ready(&mut second) && !is_ready(&mut third));
        drop(second);
        assert!(is_ready(&mut third));
        drop(third);
        assert!(intake.is_empty());
    }
}
