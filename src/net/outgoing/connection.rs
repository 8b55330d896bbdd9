//! One connection to one broker: requests pipeline, answers come back in the order of the requests.
//!
//! Two tasks own the socket's halves. A request is encoded and queued by the caller, so that the order of
//! [`Connection::start`] calls is the order on the wire; its bytes belong to the queue until they are written.
//! Anything odd (a frame too large, an answer out of order, a deadline passed) breaks the connection as a
//! whole: every unanswered request then fails with the same reason, and none is answered twice.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::protocol::frame::{self, ResponseHeader};
use crate::protocol::messages::api_versions_request::ApiVersionsRequest;
use crate::protocol::messages::api_versions_response::ApiVersionsResponse;
use crate::protocol::{ApiKey, Decoder, EncodedPiece, ErrorCode, Message, Request, Str};

use super::address::Address;
use super::error::ConnectionError;
use super::options::ConnectionOptions;
use super::stream::{self, ReadHalf, Target, WriteHalf};
use super::versions::ApiVersions;

/// A frame's buffer grows by at most doubling, from here: a size that is announced is not yet memory.
const READ_STEP_BYTES: usize = 256 << 10;
/// The most slices one write hands to the system.
const WRITE_SLICES_MAX: usize = 64;

type Answer = Result<Bytes, ConnectionError>;

/// A connection, its ApiVersions known. Cheap to clone; the socket closes when the last clone and the last
/// unanswered [`Pending`] are gone.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    peer: Arc<str>,
    client_id: Str,
    options: ConnectionOptions,
    versions: OnceLock<ApiVersions>,
    queue: Mutex<Queue>,
    tasks: OnceLock<[AbortHandle; 2]>,
}

/// What is on its way. One lock, so that the order of answers is the order of writes.
struct Queue {
    outgoing: Option<mpsc::UnboundedSender<Outgoing>>,
    waiting: VecDeque<Waiting>,
    next_correlation_id: i32,
    broken: Option<ConnectionError>,
}

struct Outgoing {
    pieces: Vec<EncodedPiece>,
    /// Told once the system has taken the last byte.
    written: Option<oneshot::Sender<()>>,
}

struct Waiting {
    correlation_id: i32,
    answer: oneshot::Sender<Answer>,
}

impl Connection {
    /// Connects to `address` and asks for the other end's ApiVersions, all within
    /// [`ConnectionOptions::connect_timeout`].
    ///
    /// # Errors
    /// [`ConnectionError::Connect`], or why what answers there is no broker.
    pub async fn connect(address: &Address, options: &ConnectionOptions) -> Result<Self, ConnectionError> {
        let deadline = options.clock.elapsed() + options.connect_timeout;
        Self::connect_until(&Target::Address(address), options, deadline).await
    }

    /// As [`Connection::connect`], until `deadline` on the options' clock, to whatever `target` is.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub async fn connect_until(
        target: &Target<'_>,
        options: &ConnectionOptions,
        deadline: Duration,
    ) -> Result<Self, ConnectionError> {
        let peer: Arc<str> = target.to_string().into();
        let refused =
            |error: io::Error| ConnectionError::Connect { peer: Arc::clone(&peer), source: Arc::new(error) };
        let connecting = async {
            let halves = stream::connect(target).await.map_err(refused)?;
            Self::open(Arc::clone(&peer), halves, options.clone()).await
        };
        tokio::select! {
            outcome = connecting => outcome,
            () = options.clock.wait_until(deadline) => Err(refused(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Takes a fresh socket's halves and asks for the broker's ApiVersions.
    async fn open(
        peer: Arc<str>,
        (read, write): (ReadHalf, WriteHalf),
        options: ConnectionOptions,
    ) -> Result<Self, ConnectionError> {
        let connection = Self::without_versions(peer, (read, write), options);
        let versions = connection.negotiate().await?;
        // Set once, here: nobody else has the connection yet.
        let _ = connection.shared.versions.set(versions);
        Ok(connection)
    }

    fn without_versions(peer: Arc<str>, halves: (ReadHalf, WriteHalf), options: ConnectionOptions) -> Self {
        let (outgoing, queued) = mpsc::unbounded_channel();
        let queue = Queue {
            outgoing: Some(outgoing),
            waiting: VecDeque::new(),
            next_correlation_id: 0,
            broken: None,
        };
        let shared = Arc::new(Shared {
            peer,
            client_id: (&*options.client_id).into(),
            options,
            versions: OnceLock::new(),
            queue: Mutex::new(queue),
            tasks: OnceLock::new(),
        });
        // The tasks hold the shared state weakly: what nobody waits for need not be read.
        let reader = tokio::spawn(read_answers(Arc::downgrade(&shared), halves.0));
        let writer = tokio::spawn(write_requests(Arc::downgrade(&shared), halves.1, queued));
        let _ = shared.tasks.set([reader.abort_handle(), writer.abort_handle()]);
        Self { shared }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.shared.peer
    }

    /// What the broker offers.
    #[must_use]
    pub fn versions(&self) -> &ApiVersions {
        static NONE: OnceLock<ApiVersions> = OnceLock::new();
        self.shared.versions.get().unwrap_or_else(|| NONE.get_or_init(ApiVersions::default))
    }

    /// The highest version of `R` that both sides know, at most `at_most`.
    ///
    /// # Errors
    /// [`ConnectionError::UnsupportedVersion`] where there is none.
    pub fn version_of<R: Request>(&self, at_most: i16) -> Result<i16, ConnectionError> {
        self.versions().choose::<R>(at_most, &self.shared.peer)
    }

    /// Why this connection is of no more use; `None` while it is.
    #[must_use]
    pub fn broken(&self) -> Option<ConnectionError> {
        self.shared.queue.lock().broken.clone()
    }

    /// Gives the connection up, saying `why`: whatever is unanswered fails.
    pub fn close(&self, why: &str) {
        self.shared.break_with(&self.shared.disconnected(why));
    }

    /// Sends `request` in the highest common version and waits for the answer.
    ///
    /// # Errors
    /// The connection's, the codec's, or that the time was up.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response, ConnectionError> {
        let version = self.version_of::<R>(i16::MAX)?;
        self.start(request, version, self.shared.options.request_timeout)?.answer().await
    }

    /// Queues `request` and returns before it is answered. Requests go out in the order of these calls.
    ///
    /// # Errors
    /// Where the request cannot be encoded or the connection is broken.
    pub fn start<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<Pending<R>, ConnectionError> {
        let (answer, receiver) = oneshot::channel();
        self.shared.queue_request(request, version, Some(answer), None)?;
        Ok(Pending { shared: Arc::clone(&self.shared), receiver, version, timeout, request: PhantomData })
    }

    /// Queues a request that the broker does not answer: Produce with acks=0.
    ///
    /// # Errors
    /// As [`Connection::start`].
    pub fn start_unanswered<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<Written, ConnectionError> {
        let (written, receiver) = oneshot::channel();
        self.shared.queue_request(request, version, None, Some(written))?;
        Ok(Written { shared: Arc::clone(&self.shared), receiver })
    }

    /// Asks for ApiVersions in our highest version; a broker that does not know it says which it knows.
    async fn negotiate(&self) -> Result<ApiVersions, ConnectionError> {
        let request = ApiVersionsRequest {
            client_software_name: "klamm".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        let mut version = ApiKey::ApiVersions.api().highest;
        loop {
            let timeout = self.shared.options.connect_timeout;
            let pending = self.start(&request, version, timeout)?;
            let frame = pending.raw().await?;
            let (code, response) = self.decode_api_versions(&frame, version)?;
            if code == ErrorCode::UnsupportedVersion && version > 0 {
                let theirs = ApiVersions::new(&response).range(ApiKey::ApiVersions);
                version = theirs.map_or(0, |range| (*range.end()).clamp(0, version - 1));
                continue;
            }
            return match ErrorCode::from_wire(response.error_code) {
                ErrorCode::None => Ok(ApiVersions::new(&response)),
                code => Err(ConnectionError::Refused { peer: Arc::clone(&self.shared.peer), code }),
            };
        }
    }

    /// An answer with UNSUPPORTED_VERSION has the body of version 0, whatever was asked.
    fn decode_api_versions(
        &self,
        frame: &Bytes,
        version: i16,
    ) -> Result<(ErrorCode, ApiVersionsResponse), ConnectionError> {
        let code = frame.get(4..6).map_or(0, |mut bytes| bytes.get_i16());
        let code = ErrorCode::from_wire(code);
        let body_version = if code == ErrorCode::UnsupportedVersion { 0 } else { version };
        let response = decode::<ApiVersionsRequest>(&self.shared.peer, frame.clone(), body_version)?;
        Ok((code, response))
    }
}

/// A request that was queued and not yet answered. Dropping it is fine: the answer is then thrown away.
pub struct Pending<R: Request> {
    shared: Arc<Shared>,
    receiver: oneshot::Receiver<Answer>,
    version: i16,
    timeout: Duration,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Pending<R> {
    /// The version that was sent.
    #[must_use]
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// Where the connection breaks, the answer is none, or does not come in time (which breaks the
    /// connection: later answers would have to wait behind it).
    pub async fn answer(self) -> Result<R::Response, ConnectionError> {
        let (peer, version) = (Arc::clone(&self.shared.peer), self.version);
        let frame = self.raw().await?;
        decode::<R>(&peer, frame, version)
    }

    async fn raw(self) -> Answer {
        let clock = &self.shared.options.clock;
        tokio::select! {
            biased;
            answer = self.receiver => answer.unwrap_or_else(|_| Err(self.shared.gone())),
            () = clock.wait(self.timeout) => {
                let late = ConnectionError::TimedOut {
                    peer: Arc::clone(&self.shared.peer),
                    api: R::KEY,
                    after: self.timeout,
                };
                self.shared.break_with(&late);
                Err(late)
            }
        }
    }
}

/// A request without an answer, queued and perhaps not yet written.
pub struct Written {
    shared: Arc<Shared>,
    receiver: oneshot::Receiver<()>,
}

impl Written {
    /// Waits until the system has the last byte.
    ///
    /// # Errors
    /// Where the connection broke before.
    pub async fn done(self) -> Result<(), ConnectionError> {
        self.receiver.await.map_err(|_| self.shared.gone())
    }
}

impl Shared {
    fn queue_request<R: Request>(
        &self,
        request: &R,
        version: i16,
        answer: Option<oneshot::Sender<Answer>>,
        written: Option<oneshot::Sender<()>>,
    ) -> Result<(), ConnectionError> {
        let mut queue = self.queue.lock();
        if let Some(error) = &queue.broken {
            return Err(error.clone());
        }
        let correlation_id = queue.next_correlation_id;
        let pieces = frame::encode_request(correlation_id, Some(&self.client_id), version, request)
            .map_err(|source| ConnectionError::Encode { api: R::KEY, version, source })?;
        queue.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        if let Some(answer) = answer {
            queue.waiting.push_back(Waiting { correlation_id, answer });
        }
        // A closed queue means that the writer broke: `broken` is set, or is about to be.
        let request = Outgoing { pieces, written };
        let sent = queue.outgoing.as_ref().is_some_and(|outgoing| outgoing.send(request).is_ok());
        drop(queue);
        if sent { Ok(()) } else { Err(self.gone()) }
    }

    /// Fails everything that waits, and every later request, with `error`; the first reason stays.
    fn break_with(&self, error: &ConnectionError) {
        let mut queue = self.queue.lock();
        let reason = queue.broken.get_or_insert_with(|| error.clone()).clone();
        queue.outgoing = None;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        for waiting in waiting {
            let _ = waiting.answer.send(Err(reason.clone()));
        }
        self.abort_tasks();
    }

    fn disconnected(&self, why: &str) -> ConnectionError {
        ConnectionError::Disconnected { peer: Arc::clone(&self.peer), why: why.into() }
    }

    fn gone(&self) -> ConnectionError {
        let broken = self.queue.lock().broken.clone();
        broken.unwrap_or_else(|| self.disconnected("it was closed"))
    }

    /// Hands `frame` to the oldest request.
    fn deliver(&self, frame: Bytes) -> Result<(), ConnectionError> {
        let got = frame.get(..4).map(|mut id| id.get_i32());
        let oldest = self.queue.lock().waiting.pop_front();
        match (got, oldest) {
            (Some(got), Some(waiting)) if got == waiting.correlation_id => {
                let _ = waiting.answer.send(Ok(frame));
                Ok(())
            }
            (got, oldest) => {
                let expected = oldest.as_ref().map_or(-1, |waiting| waiting.correlation_id);
                let error = ConnectionError::OutOfOrder {
                    peer: Arc::clone(&self.peer),
                    got: got.unwrap_or(-1),
                    expected,
                };
                if let Some(waiting) = oldest {
                    let _ = waiting.answer.send(Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    fn abort_tasks(&self) {
        for task in self.tasks.get().into_iter().flatten() {
            task.abort();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.abort_tasks();
    }
}

fn decode<R: Request>(peer: &Arc<str>, frame: Bytes, version: i16) -> Result<R::Response, ConnectionError> {
    let error = |source| ConnectionError::Decode { peer: Arc::clone(peer), api: R::KEY, version, source };
    let mut decoder = Decoder::new(frame);
    ResponseHeader::decode(&mut decoder, R::KEY, version).map_err(error)?;
    R::Response::decode(&mut decoder, version).map_err(error)
}

/// Reads frames until the socket or the last owner ends.
async fn read_answers(shared: std::sync::Weak<Shared>, mut socket: ReadHalf) {
    let Some(limit) = shared.upgrade().map(|shared| shared.options.receive_bytes_max) else { return };
    let mut buffer = BytesMut::with_capacity(READ_STEP_BYTES);
    let mut last_bytes = 0;
    loop {
        let frame = read_frame(&mut socket, &mut buffer, last_bytes, limit).await;
        last_bytes = frame.as_ref().map_or(0, Bytes::len);
        let Some(shared) = shared.upgrade() else { return };
        let outcome = match frame {
            Ok(frame) => shared.deliver(frame),
            Err(FrameError::Size(size)) => {
                Err(ConnectionError::FrameSize { peer: Arc::clone(&shared.peer), size, max: limit })
            }
            Err(FrameError::Io(error)) => Err(shared.disconnected(&error.to_string())),
        };
        if let Err(error) = outcome {
            shared.break_with(&error);
            return;
        }
    }
}

#[derive(Debug)]
enum FrameError {
    Size(i32),
    Io(io::Error),
}

/// The next frame without its size. `buffer` keeps what was read beyond it. The one before had `last_bytes`: there is
/// room for as many at once, so that answers that are all large are not copied from buffer to larger buffer.
async fn read_frame(
    socket: &mut ReadHalf,
    buffer: &mut BytesMut,
    last_bytes: usize,
    limit: usize,
) -> Result<Bytes, FrameError> {
    fill(socket, buffer, 4, 0).await?;
    let announced = (&buffer[..4]).get_i32();
    let size = usize::try_from(announced).ok().filter(|&size| (4..=limit).contains(&size));
    let Some(size) = size else { return Err(FrameError::Size(announced)) };
    fill(socket, buffer, 4 + size, last_bytes).await?;
    buffer.advance(4);
    Ok(buffer.split_to(size).freeze())
}

/// Reads until `buffer` holds `wanted` bytes. Memory grows with what has come, now or the last time, not with what is
/// announced.
async fn fill(
    socket: &mut ReadHalf,
    buffer: &mut BytesMut,
    wanted: usize,
    last_bytes: usize,
) -> Result<(), FrameError> {
    while buffer.len() < wanted {
        let missing = wanted - buffer.len();
        if buffer.capacity() == buffer.len() {
            buffer.reserve(missing.min(buffer.len().max(last_bytes)).max(READ_STEP_BYTES));
        }
        if socket.read_buf(buffer).await.map_err(FrameError::Io)? == 0 {
            let why = if buffer.is_empty() { "the broker closed it" } else { "it ended inside an answer" };
            return Err(FrameError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
        }
    }
    Ok(())
}

/// Writes queued requests until the queue or the socket ends.
async fn write_requests(
    shared: std::sync::Weak<Shared>,
    mut socket: WriteHalf,
    mut queued: mpsc::UnboundedReceiver<Outgoing>,
) {
    let mut batch: Vec<Outgoing> = Vec::new();
    while queued.recv_many(&mut batch, WRITE_SLICES_MAX).await > 0 {
        let pieces = batch.iter_mut().flat_map(|request| request.pieces.drain(..));
        let mut pieces: VecDeque<Bytes> = pieces
            .filter_map(|piece| match piece {
                EncodedPiece::Bytes(bytes) => Some(bytes),
                // Requests carry their records inline; a gap is only ever left in a broker's answer.
                EncodedPiece::Gap { .. } => None,
            })
            .collect();
        if let Err(error) = write_all(&mut socket, &mut pieces).await {
            if let Some(shared) = shared.upgrade() {
                shared.break_with(&shared.disconnected(&error.to_string()));
            }
            return;
        }
        for written in batch.drain(..).filter_map(|request| request.written) {
            let _ = written.send(());
        }
    }
}

async fn write_all(socket: &mut WriteHalf, pieces: &mut VecDeque<Bytes>) -> io::Result<()> {
    while !pieces.is_empty() {
        let slices: Vec<IoSlice<'_>> =
            pieces.iter().take(WRITE_SLICES_MAX).map(|piece| IoSlice::new(piece)).collect();
        let mut written = socket.write_vectored(&slices).await?;
        if written == 0 && pieces.iter().any(|piece| !piece.is_empty()) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = pieces.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            pieces.pop_front();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Asked, Fake, Reply};
    use super::super::stream::Dial;
    use super::*;
    use crate::protocol::messages::api_versions_response::ApiVersion;
    use crate::protocol::messages::metadata_request::MetadataRequest;
    use crate::protocol::messages::metadata_response::MetadataResponse;
    use crate::types::ManualClock;

    async fn connect(
        dial: &Arc<dyn Dial>,
        options: ConnectionOptions,
    ) -> Result<Connection, ConnectionError> {
        let deadline = options.clock.elapsed() + options.connect_timeout;
        Connection::connect_until(&Target::Dial(dial.as_ref()), &options, deadline).await
    }

    fn metadata(asked: &Asked) -> Reply {
        asked.answer(&MetadataResponse { controller_id: 7, ..Default::default() })
    }

    fn usual(asked: &Asked) -> Reply {
        match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            _ => metadata(asked),
        }
    }

    fn raw(frame: &'static [u8]) -> impl Fn(Asked) -> Reply {
        move |asked| match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            _ => Reply::Bytes(Bytes::from_static(frame)),
        }
    }

    #[tokio::test]
    async fn pipelined_requests_get_their_own_answers() {
        let connection = connect(&Fake::dialled(|a| usual(&a)), ConnectionOptions::default()).await.unwrap();
        let timeout = Duration::from_secs(10);
        let pending: Vec<_> = (0..=12)
            .map(|version| connection.start(&MetadataRequest::default(), version, timeout).unwrap())
            .collect();
        for (version, pending) in pending.into_iter().enumerate() {
            let controller = if version == 0 { -1 } else { 7 };
            assert_eq!(pending.answer().await.unwrap().controller_id, controller, "{version}");
        }
    }

    #[tokio::test]
    async fn an_older_broker_is_asked_again_in_a_version_it_knows() {
        let dial = Fake::dialled(|asked| match (asked.key(), asked.header.api_version) {
            (ApiKey::ApiVersions, 0..=2) => asked.answer_api_versions(),
            (ApiKey::ApiVersions, _) => {
                let known = ApiVersion { api_key: 18, max_version: 2, ..Default::default() };
                let response =
                    ApiVersionsResponse { error_code: 35, api_keys: vec![known], ..Default::default() };
                let id = asked.header.correlation_id;
                let pieces = frame::encode_response(id, ApiKey::ApiVersions, 0, &response).unwrap();
                Reply::Bytes(frame::join(&pieces).unwrap())
            }
            _ => metadata(&asked),
        });
        let connection = connect(&dial, ConnectionOptions::default()).await.unwrap();
        assert_eq!(connection.call(&MetadataRequest::default()).await.unwrap().controller_id, 7);
    }

    #[tokio::test]
    async fn cve_2022_34917_an_announced_size_is_refused_or_waited_for_but_never_allocated() {
        for frame in [&b"\x7f\xff\xff\xff"[..], b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x03abc"] {
            let connection = connect(&Fake::dialled(raw(frame)), ConnectionOptions::default()).await.unwrap();
            let error = connection.call(&MetadataRequest::default()).await.unwrap_err();
            assert!(matches!(error, ConnectionError::FrameSize { .. }), "{frame:?}: {error}");
        }
        let mut buffer = BytesMut::with_capacity(READ_STEP_BYTES);
        let (ours, mut theirs) = tokio::net::UnixStream::pair().unwrap();
        let (mut read, _write) = stream::split_unix(ours);
        theirs.write_all(&(200i32 << 20).to_be_bytes()).await.unwrap();
        theirs.write_all(&[0; 1000]).await.unwrap();
        drop(theirs);
        assert!(read_frame(&mut read, &mut buffer, 0, 256 << 20).await.is_err());
        assert!(buffer.capacity() <= 2 * READ_STEP_BYTES, "{}", buffer.capacity());
    }

    #[tokio::test]
    async fn an_answer_to_another_request_breaks_the_connection() {
        let frame = b"\0\0\0\x06\0\0\x12\x34xx";
        let connection = connect(&Fake::dialled(raw(frame)), ConnectionOptions::default()).await.unwrap();
        let error = connection.call(&MetadataRequest::default()).await.unwrap_err();
        assert!(matches!(error, ConnectionError::OutOfOrder { got: 0x1234, expected: 1, .. }), "{error}");
        assert!(connection.broken().is_some());
        assert!(connection.call(&MetadataRequest::default()).await.is_err());
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_named() {
        let frame = b"\0\0\0\x06\0\0\0\x01\xff\xff";
        let connection = connect(&Fake::dialled(raw(frame)), ConnectionOptions::default()).await.unwrap();
        let error = connection.call(&MetadataRequest::default()).await.unwrap_err();
        assert!(matches!(error, ConnectionError::Decode { api: ApiKey::Metadata, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_silent_broker_costs_a_timeout_and_the_connection() {
        let dial = Fake::dialled(|asked| match asked.key() {
            ApiKey::ApiVersions => asked.answer_api_versions(),
            _ => Reply::Nothing,
        });
        let clock = ManualClock::new(0);
        let options = ConnectionOptions { clock: Arc::<ManualClock>::clone(&clock), ..Default::default() };
        let connection = connect(&dial, options).await.unwrap();
        let call = tokio::spawn({
            let connection = connection.clone();
            async move { connection.call(&MetadataRequest::default()).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(31));
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, ConnectionError::TimedOut { api: ApiKey::Metadata, .. }), "{error}");
        assert!(connection.broken().is_some());
    }
}
