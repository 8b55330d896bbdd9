//! One connection: one task that reads, serves and writes.
//!
//! One task holds both halves, so that a request that can be answered at once costs no wake-up of another
//! task, and requests that came together are answered in one write. Futures of waiting answers are polled
//! from the start, each in its place; an answer leaves when all before it have left.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;

use super::budget::{Budget, Share};
use super::frames::{FrameError, FrameReader};
use super::outbox::Outbox;
use super::socket::Socket;
use super::{Answer, Limits, Peer, Piece, Reply, Service};
use crate::types::Clock;

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum Closed {
    /// The peer closed it between two frames.
    #[error("the client closed the connection")]
    ByPeer,
    /// The peer closed it inside a frame.
    #[error("the client closed the connection in the middle of a request")]
    InsideFrame,
    /// What came was no frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The service refused what came.
    #[error("{0}")]
    Refused(String),
    /// The socket failed, or a file of an answer did.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing moved for too long.
    #[error("nothing moved for {0:?} (connections.max.idle.ms)")]
    Idle(Duration),
    /// The first request did not come.
    #[error("no whole request came within {0:?} of connecting")]
    NoRequest(Duration),
    /// A frame took too long.
    #[error("a request was not whole after {0:?}")]
    SlowFrame(Duration),
    /// The broker stops.
    #[error("the broker is stopping")]
    Stopping,
}

impl Closed {
    /// Whether the peer did something that deserves a line in the log.
    #[must_use]
    pub fn is_misbehaviour(&self) -> bool {
        match self {
            Self::Frame(_)
            | Self::Refused(_)
            | Self::SlowFrame(_)
            | Self::NoRequest(_)
            | Self::InsideFrame => true,
            Self::Io(error) => !matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
            ),
            Self::ByPeer | Self::Idle(_) | Self::Stopping => false,
        }
    }
}

type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

enum Slot {
    Ready(Answer),
    Waiting(AnswerFuture),
}

/// The bytes of memory an answer holds while it waits for its turn.
fn memory_bytes(answer: &Answer) -> usize {
    let Answer::Send(pieces) = answer else { return 0 };
    pieces.iter().map(|piece| if let Piece::Bytes(bytes) = piece { bytes.len() } else { 0 }).sum()
}

/// A connection between [`Connection::new`] and its end.
pub struct Connection<S: Service> {
    socket: Socket,
    reader: FrameReader,
    service: Arc<S>,
    session: S::Session,
    answers: VecDeque<Slot>,
    waiting_count: usize,
    /// The memory of `answers`.
    queued_bytes: usize,
    outbox: Outbox,
    share: Share,
    limits: Arc<Limits>,
    watch: Watch,
    /// Set when nothing more is read: the reason becomes the connection's end once the answers are out.
    ending: Option<Closed>,
}

impl<S: Service> Connection<S> {
    /// Puts a service behind an accepted socket.
    pub fn new(
        socket: Socket,
        peer: &Peer,
        service: Arc<S>,
        limits: Arc<Limits>,
        budget: &Budget,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            socket,
            reader: FrameReader::new(limits.request_bytes_max),
            session: service.open(peer),
            service,
            answers: VecDeque::new(),
            waiting_count: 0,
            queued_bytes: 0,
            outbox: Outbox::default(),
            share: budget.share(),
            watch: Watch::new(clock),
            limits,
            ending: None,
        }
    }

    /// Serves until the peer, a limit or `stop` ends it. When `stop` resolves, what has been read is still
    /// answered.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) -> Closed {
        let mut stop = std::pin::pin!(stop);
        std::future::poll_fn(|context| {
            if self.ending.is_none() && stop.as_mut().poll(context).is_ready() {
                self.ending = Some(Closed::Stopping);
            }
            self.poll(context)
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Closed> {
        match self.poll_serve(context) {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(closed)) | Err(closed) => return Poll::Ready(closed),
        }
        let state = self.state();
        self.watch.poll_expired(context, state, &self.limits, &self.reader)
    }

    /// Reads, serves and writes until nothing can move.
    fn poll_serve(&mut self, context: &mut Context<'_>) -> Result<Poll<Closed>, Closed> {
        loop {
            self.collect_answers(context);
            let written = self.outbox.poll_send(context, &mut self.socket, &mut self.watch.moved)?;
            if self.ending.is_some() {
                if written.is_pending() || !self.answers.is_empty() {
                    return Ok(Poll::Pending);
                }
                return Ok(Poll::Ready(self.ending.take().unwrap_or(Closed::ByPeer)));
            }
            if self.is_full(context) {
                return Ok(Poll::Pending);
            }
            if !self.serve_frames(context) && self.poll_read(context)?.is_pending() {
                return Ok(Poll::Pending);
            }
        }
    }

    /// Whether the peer has to wait: too many answers, or too many bytes, are on their way.
    fn is_full(&mut self, context: &Context<'_>) -> bool {
        let memory = self.queued_bytes + self.outbox.memory_bytes();
        self.owes_enough() || !self.share.set(charged(memory) + self.reader.charged_bytes(), context.waker())
    }

    fn owes_enough(&self) -> bool {
        self.answers.len() >= self.limits.unanswered_max
            || self.queued_bytes + self.outbox.memory_bytes() > self.limits.answer_bytes_max
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, Closed> {
        let (buffer, room) = self.reader.room();
        match self.socket.poll_read(context, buffer, room)? {
            Poll::Pending => {
                self.reader.release_room();
                Ok(Poll::Pending)
            }
            Poll::Ready(0) if self.reader.is_partial() => Err(Closed::InsideFrame),
            Poll::Ready(0) => {
                // A peer that only closed its sending side still gets what it asked for.
                self.ending = Some(Closed::ByPeer);
                Ok(Poll::Ready(()))
            }
            Poll::Ready(count) => {
                self.watch.moved += count as u64;
                Ok(Poll::Ready(()))
            }
        }
    }

    /// Hands the whole frames that are in the buffer to the service; whether there was any.
    fn serve_frames(&mut self, context: &mut Context<'_>) -> bool {
        let mut served = false;
        while self.ending.is_none() && !self.owes_enough() {
            match self.reader.next_frame() {
                Ok(Some(frame)) => {
                    served = true;
                    self.watch.frames += 1;
                    let reply = self.service.call(&mut self.session, frame);
                    self.enqueue(context, reply);
                }
                Ok(None) => break,
                Err(error) => {
                    self.ending = Some(error.into());
                    served = true;
                }
            }
        }
        served
    }

    fn enqueue(&mut self, context: &mut Context<'_>, reply: Reply) {
        match reply {
            Reply::Now(Answer::Silence) => {}
            Reply::Now(Answer::Send(pieces)) if self.answers.is_empty() => self.outbox.push(pieces),
            Reply::Now(answer) => self.enqueue_ready(answer),
            Reply::Later(mut future) => match future.as_mut().poll(context) {
                Poll::Ready(answer) => self.enqueue_ready(answer),
                Poll::Pending => {
                    self.waiting_count += 1;
                    self.answers.push_back(Slot::Waiting(future));
                }
            },
        }
    }

    fn enqueue_ready(&mut self, answer: Answer) {
        self.queued_bytes += memory_bytes(&answer);
        self.answers.push_back(Slot::Ready(answer));
    }

    /// Polls what waits and moves the answers whose turn has come to the outbox.
    fn collect_answers(&mut self, context: &mut Context<'_>) {
        if self.waiting_count > 0 {
            for slot in &mut self.answers {
                if let Slot::Waiting(future) = slot
                    && let Poll::Ready(answer) = future.as_mut().poll(context)
                {
                    self.queued_bytes += memory_bytes(&answer);
                    *slot = Slot::Ready(answer);
                    self.waiting_count -= 1;
                }
            }
        }
        while let Some(slot) = self.answers.pop_front() {
            let answer = match slot {
                Slot::Waiting(_) => return self.answers.push_front(slot),
                Slot::Ready(answer) => answer,
            };
            self.queued_bytes -= memory_bytes(&answer);
            match answer {
                Answer::Send(pieces) => self.outbox.push(pieces),
                Answer::Silence => {}
                Answer::Close { reason } => {
                    self.ending = Some(Closed::Refused(reason));
                    self.answers.clear();
                    (self.waiting_count, self.queued_bytes) = (0, 0);
                }
            }
        }
    }

    fn state(&self) -> State {
        if !self.answers.is_empty() && self.outbox.is_empty() {
            State::Serving
        } else if self.reader.is_partial() && self.outbox.is_empty() {
            State::Receiving
        } else {
            State::Quiet
        }
    }
}

/// Small answers cost nothing in the shared count: its lock is not taken for every request.
fn charged(memory_bytes: usize) -> usize {
    if memory_bytes < 256 << 10 { 0 } else { memory_bytes }
}

/// What a connection is at when nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The broker owes an answer: no deadline.
    Serving,
    /// A frame has begun.
    Receiving,
    /// The peer has to read, or to ask.
    Quiet,
}

/// Watches the clock with one timer that is set anew only when it fires.
struct Watch {
    clock: Arc<dyn Clock>,
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    opened_at: Duration,
    moved: u64,
    frames: u64,
    /// What was seen last, and since when it has not changed.
    seen: (State, u64, u64),
    since: Duration,
}

impl Watch {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let now = clock.elapsed();
        Self {
            clock,
            timer: None,
            opened_at: now,
            moved: 0,
            frames: 0,
            seen: (State::Quiet, 0, 0),
            since: now,
        }
    }

    /// Resolves when a deadline has passed; else leaves a timer behind that looks again.
    fn poll_expired(
        &mut self,
        context: &mut Context<'_>,
        state: State,
        limits: &Limits,
        reader: &FrameReader,
    ) -> Poll<Closed> {
        loop {
            if let Some(timer) = &mut self.timer
                && timer.as_mut().poll(context).is_pending()
            {
                return Poll::Pending;
            }
            let now = self.clock.elapsed();
            let deadline = match self.deadline(now, state, limits, reader) {
                Ok(deadline) => deadline,
                Err(closed) => return Poll::Ready(closed),
            };
            let clock = Arc::clone(&self.clock);
            self.timer = Some(Box::pin(async move { clock.wait_until(deadline).await }));
        }
    }

    /// When to look again, or why the connection is over.
    fn deadline(
        &mut self,
        now: Duration,
        state: State,
        limits: &Limits,
        reader: &FrameReader,
    ) -> Result<Duration, Closed> {
        // Bytes of one frame that trickle in do not make it younger: frames count, not bytes.
        let seen = match state {
            State::Receiving => (state, 0, self.frames),
            _ => (state, self.moved, self.frames),
        };
        if seen != self.seen {
            self.seen = seen;
            self.since = now;
        }
        if self.frames == 0 {
            let deadline = self.opened_at + limits.first_request_max.max(reader.time_allowed(Duration::ZERO));
            return if now >= deadline { Err(Closed::NoRequest(now - self.opened_at)) } else { Ok(deadline) };
        }
        let (allowed, look_again) = match state {
            State::Serving => return Ok(now + limits.idle_max),
            State::Receiving => (reader.time_allowed(limits.partial_frame_max), limits.partial_frame_max),
            State::Quiet => (limits.idle_max, limits.idle_max.min(limits.partial_frame_max)),
        };
        let quiet = now.saturating_sub(self.since);
        match (quiet >= allowed, state) {
            (true, State::Receiving) => Err(Closed::SlowFrame(quiet)),
            (true, _) => Err(Closed::Idle(limits.idle_max)),
            (false, _) => Ok((self.since + allowed).min(now + look_again)),
        }
    }
}
