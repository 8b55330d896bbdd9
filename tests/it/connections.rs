//! A connection as its peer sees it: order, limits, and what happens to bytes that are no request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use klamm::config::ListenAddress;
use klamm::net::budget::Budget;
use klamm::net::listener::{Gate, Listener};
use klamm::net::quotas::ConnectionQuotas;
use klamm::net::socket::Socket;
use klamm::net::{Answer, Limits, Peer, Piece, Reply, Service};
use klamm::types::{Clock, ManualClock};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

/// Answers each frame with itself. A frame that begins with `w` waits for a notice first, `c` closes, `s`
/// is silent.
struct Echo {
    seen: Mutex<Vec<Bytes>>,
    notice: Arc<Notify>,
}

impl Echo {
    fn new() -> Arc<Self> {
        Arc::new(Self { seen: Mutex::new(Vec::new()), notice: Arc::new(Notify::new()) })
    }
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = i32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

impl Service for Echo {
    type Session = ();

    fn open(&self, _: &Peer) {}

    fn call(self: &Arc<Self>, (): &mut (), frame: Bytes) -> Reply {
        self.seen.lock().push(frame.clone());
        let answer = Answer::Send(vec![Piece::Bytes(framed(&frame).into())]);
        match frame[0] {
            b'w' => {
                let notice = Arc::clone(&self.notice);
                Reply::Later(Box::pin(async move {
                    notice.notified().await;
                    answer
                }))
            }
            b'c' => Reply::Now(Answer::Close { reason: "asked to".to_owned() }),
            b's' => Reply::Now(Answer::Silence),
            _ => Reply::Now(answer),
        }
    }
}

struct Fixture {
    gate: Gate<Echo>,
    echo: Arc<Echo>,
    clock: Arc<ManualClock>,
    budget: Budget,
}

fn fixture(limits: Limits) -> Fixture {
    let (echo, clock, budget) = (Echo::new(), ManualClock::new(0), Budget::new(1 << 20));
    let quotas = ConnectionQuotas::new(2, 1, HashMap::new());
    let clock_handle: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let gate = Gate::new(Arc::clone(&echo), limits, quotas, budget.clone(), clock_handle);
    Fixture { gate, echo, clock, budget }
}

impl Fixture {
    fn connect(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = Peer { listener: "TEST".into(), address: "test".into(), ip: None };
        self.gate.attach(Socket::Unix(ours), peer);
        theirs
    }

    /// Moves time until the broker has closed `stream`.
    async fn closed_after(&self, stream: &mut UnixStream) -> Duration {
        let start = self.clock.elapsed();
        let mut byte = [0];
        loop {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            match stream.try_read(&mut byte) {
                Ok(0) => return self.clock.elapsed() - start,
                Ok(_) => panic!("an answer to half a frame"),
                Err(_) => self.clock.advance(Duration::from_secs(1)),
            }
            assert!(self.clock.elapsed() < Duration::from_secs(5_000));
        }
    }
}

async fn read_frame(stream: &mut UnixStream) -> Vec<u8> {
    let size = stream.read_i32().await.unwrap();
    let mut payload = vec![0; usize::try_from(size).unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    payload
}

async fn is_closed(stream: &mut UnixStream) -> bool {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.is_err() || rest.is_empty()
}

#[tokio::test]
async fn answers_leave_in_order_while_later_requests_are_served() {
    let fixture = fixture(Limits::default());
    let mut stream = fixture.connect();
    let payloads = [&b"wait-one"[..], b"now-two!", b"silent--", b"wait-thr", b"now-four"];
    for payload in payloads {
        stream.write_all(&framed(payload)).await.unwrap();
    }
    while fixture.echo.seen.lock().len() < payloads.len() {
        tokio::task::yield_now().await;
    }
    assert!(stream.try_read(&mut [0]).is_err(), "nothing overtakes the answer that waits");
    fixture.echo.notice.notify_one();
    assert_eq!(read_frame(&mut stream).await, b"wait-one");
    assert_eq!(read_frame(&mut stream).await, b"now-two!");
    fixture.echo.notice.notify_one();
    assert_eq!(read_frame(&mut stream).await, b"wait-thr");
    assert_eq!(read_frame(&mut stream).await, b"now-four");
}

#[tokio::test]
async fn s1_8_no_more_requests_are_taken_than_may_be_unanswered() {
    let fixture = fixture(Limits { unanswered_max: 3, ..Limits::default() });
    let mut stream = fixture.connect();
    let wire: Vec<u8> = (0..10).flat_map(|_| framed(b"wait----")).collect();
    stream.write_all(&wire).await.unwrap();
    while fixture.echo.seen.lock().len() < 3 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.echo.seen.lock().len(), 3);
    for _ in 0..10 {
        fixture.echo.notice.notify_one();
        assert_eq!(read_frame(&mut stream).await, b"wait----");
    }
}

#[tokio::test]
async fn s1_8_large_frames_share_the_budget_and_all_get_through() {
    let fixture = fixture(Limits::default());
    let payload = vec![b'x'; 700_000];
    let clients = (0..6).map(|_| {
        let (mut stream, payload) = (fixture.connect(), payload.clone());
        tokio::spawn(async move {
            for _ in 0..3 {
                let wire = framed(&payload);
                let (mut reader, mut writer) = stream.split();
                let (sent, received) = tokio::join!(writer.write_all(&wire), async {
                    let size = reader.read_i32().await.unwrap();
                    let mut back = vec![0; usize::try_from(size).unwrap()];
                    reader.read_exact(&mut back).await.unwrap();
                    back
                });
                sent.unwrap();
                assert!(received == payload);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    while fixture.budget.used() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn s1_8_bytes_that_are_no_frame_close_that_connection_alone() {
    let fixture = fixture(Limits::default());
    let mut bystander = fixture.connect();
    let tls_hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01];
    for bad in [&tls_hello[..], &[0; 4], &[0xff; 4], &[0x7f, 0xff, 0xff, 0xff], b"GET / HTTP/1.1\r\n"] {
        let mut stream = fixture.connect();
        stream.write_all(bad).await.unwrap();
        assert!(is_closed(&mut stream).await, "{bad:?}");
    }
    let mut half = fixture.connect();
    half.write_all(&framed(b"whole---")[..7]).await.unwrap();
    half.shutdown().await.unwrap();
    assert!(is_closed(&mut half).await);
    let mut refused = fixture.connect();
    refused.write_all(&framed(b"close---")).await.unwrap();
    assert!(is_closed(&mut refused).await);

    bystander.write_all(&framed(b"unharmed")).await.unwrap();
    assert_eq!(read_frame(&mut bystander).await, b"unharmed");
}

#[tokio::test]
async fn s1_8_half_a_frame_is_closed_in_time_however_slowly_it_grows() {
    let fixture = fixture(Limits::default());
    let mut slow = fixture.connect();
    slow.write_all(&framed(b"first---")).await.unwrap();
    read_frame(&mut slow).await;
    slow.write_all(&100_i32.to_be_bytes()).await.unwrap();
    let half = fixture.closed_after(&mut slow).await;
    assert!(half >= Duration::from_secs(30) && half <= Duration::from_secs(62), "{half:?}");
}

#[tokio::test]
async fn s1_8_a_connection_that_asks_nothing_is_closed_after_30_seconds() {
    let fixture = fixture(Limits::default());
    let mut silent = fixture.connect();
    assert_eq!(fixture.closed_after(&mut silent).await, Duration::from_secs(30));
}

#[tokio::test]
async fn s1_8_an_idle_connection_is_closed_after_connections_max_idle() {
    let fixture = fixture(Limits::default());
    let mut idle = fixture.connect();
    idle.write_all(&framed(b"first---")).await.unwrap();
    read_frame(&mut idle).await;
    let quiet = fixture.closed_after(&mut idle).await;
    assert!(quiet >= Duration::from_secs(600) && quiet <= Duration::from_secs(632), "{quiet:?}");
}

#[tokio::test]
async fn s1_8_an_address_beyond_its_quota_is_closed_at_once() {
    let fixture = fixture(Limits::default());
    let listener = Listener::bind("TEST", &ListenAddress::parse("127.0.0.1:0").unwrap(), 50).unwrap();
    let address = listener.address().to_string();
    fixture.gate.open(listener);
    let mut first = TcpStream::connect(&address).await.unwrap();
    first.write_all(&framed(b"accepted")).await.unwrap();
    assert_eq!(first.read_i32().await.unwrap(), 8);
    let mut second = TcpStream::connect(&address).await.unwrap();
    assert!(!matches!(second.read(&mut [0]).await, Ok(1..)));
    drop(first);
    // The place is free when the broker has seen the end of the first connection.
    loop {
        let mut third = TcpStream::connect(&address).await.unwrap();
        let _ = third.write_all(&framed(b"accepted")).await;
        if third.read_i32().await.is_ok() {
            break;
        }
    }
}

#[tokio::test]
async fn a_stop_answers_what_was_read_and_ends_every_connection() {
    let fixture = fixture(Limits::default());
    let path = tempfile::tempdir().unwrap().keep().join("socket");
    let listener = Listener::bind("TEST", &ListenAddress::Unix(path.clone()), 50).unwrap();
    fixture.gate.open(listener);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(&framed(b"wait----")).await.unwrap();
    while fixture.echo.seen.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    let closing = tokio::spawn(fixture.gate.close(Duration::from_secs(10)));
    tokio::task::yield_now().await;
    fixture.echo.notice.notify_one();
    assert_eq!(read_frame(&mut stream).await, b"wait----");
    closing.await.unwrap();
    assert!(!path.exists(), "the socket file goes with its listener");
}
