//! One blocking socket to one broker, for the generators: it sends what was encoded beforehand and reads
//! frames into a buffer that is used again. Set-up requests take the ordinary codec ([`Wire::call`]).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use nix::poll::{PollFd, PollFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::client::{Address, BrokerError};
use crate::protocol::messages::api_versions_request::ApiVersionsRequest;
use crate::protocol::{Decoder, EncodedPiece, Request, Str, decode_whole, frame};

/// The largest answer taken: one fetch may be as large as the user asked for.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// What brokers see in their logs and meters.
const CLIENT_ID: Str = Str::from_static("klamm-bench");

/// How long a broker may leave a request unanswered before a run is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connected socket, and the versions its broker knows.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    peer: String,
    versions: BTreeMap<i16, (i16, i16)>,
    next_correlation_id: i32,
}

impl Wire {
    /// Connects and asks for the versions.
    ///
    /// # Errors
    /// Where nobody answers within `timeout`, or what answers is no Kafka broker.
    pub fn connect(address: &Address, timeout: Duration) -> anyhow::Result<Self> {
        let socket =
            connect_any(address, timeout).with_context(|| format!("no broker answers at {address}"))?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT.max(timeout)))?;
        socket.set_write_timeout(Some(ANSWER_TIMEOUT.max(timeout)))?;
        let mut wire =
            Self { socket, peer: address.to_string(), versions: BTreeMap::new(), next_correlation_id: 0 };
        // Version 0 is answered by every broker since 0.10.
        let answer = wire.call_version(&ApiVersionsRequest::default(), 0)?;
        BrokerError::check(answer.error_code, || wire.peer.clone(), None)?;
        wire.versions =
            answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(wire)
    }

    /// The highest version of `R` that both sides know, and that is at most `at_most`.
    ///
    /// # Errors
    /// Where there is none.
    pub fn version<R: Request>(&self, at_most: i16) -> anyhow::Result<i16> {
        let name = R::KEY.name();
        let Some(&(min, max)) = self.versions.get(&R::KEY.key()) else {
            bail!("{} does not know {name}", self.peer);
        };
        let version = max.min(*R::VERSIONS.end()).min(at_most);
        if version < min || version < *R::VERSIONS.start() {
            bail!(
                "{} knows {name} {min} to {max}; klamm bench speaks {} to {at_most}",
                self.peer,
                R::VERSIONS.start()
            );
        }
        Ok(version)
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// Where the socket breaks, the versions do not meet, or the answer cannot be read.
    pub fn call<R: Request>(&mut self, request: &R) -> anyhow::Result<R::Response> {
        let version = self.version::<R>(i16::MAX)?;
        self.call_version(request, version)
    }

    fn call_version<R: Request>(&mut self, request: &R, version: i16) -> anyhow::Result<R::Response> {
        let id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let pieces = encode(request, version, id)?;
        let bytes = frame::join(&pieces).with_context(|| format!("{} holds records", R::KEY.name()))?;
        self.send(&bytes)?;
        let mut answer = Vec::new();
        self.read_frame(&mut answer)?;
        decode::<R>(Bytes::from(answer), version, id)
    }

    /// Writes everything.
    ///
    /// # Errors
    /// Where the socket breaks.
    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.socket.write_all(bytes).with_context(|| format!("sending to {}", self.peer))
    }

    /// Reads what is there, at least one byte.
    ///
    /// # Errors
    /// Where the socket breaks or the broker closed it.
    pub fn read_some(&mut self, into: &mut [u8]) -> anyhow::Result<usize> {
        match self.socket.read(into).with_context(|| format!("reading from {}", self.peer))? {
            0 => bail!("{} closed the connection", self.peer),
            count => Ok(count),
        }
    }

    /// Reads one frame into the front of `into`, without its size; `into` only ever grows. Returns how long
    /// the frame is.
    ///
    /// # Errors
    /// Where the socket breaks or the size is not one.
    pub fn read_frame(&mut self, into: &mut impl Buffer) -> anyhow::Result<usize> {
        let mut size = [0; 4];
        self.read_exact(&mut size)?;
        let size = frame_size(size)?;
        let target = into.at_least(size);
        self.read_exact(&mut target[..size])?;
        Ok(size)
    }

    fn read_exact(&mut self, into: &mut [u8]) -> anyhow::Result<()> {
        self.socket.read_exact(into).with_context(|| format!("reading from {}", self.peer))
    }

    /// Waits until there is something to read, at most for `wait`; says whether there is.
    ///
    /// # Errors
    /// Where the system refuses to wait.
    pub fn wait_readable(&self, wait: Duration) -> anyhow::Result<bool> {
        let mut descriptors = [PollFd::new(self.descriptor(), PollFlags::POLLIN)];
        let time = nix::sys::time::TimeSpec::from_duration(wait);
        let ready = nix::poll::ppoll(&mut descriptors, Some(time), None);
        match ready {
            Ok(count) => Ok(count > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Memory that frames are read into, again and again.
pub trait Buffer {
    /// Makes room for `size` bytes at the front and returns all there is.
    fn at_least(&mut self, size: usize) -> &mut [u8];
}

impl Buffer for Vec<u8> {
    fn at_least(&mut self, size: usize) -> &mut [u8] {
        if self.len() < size {
            self.resize(size, 0);
        }
        self
    }
}

impl Buffer for bytes::BytesMut {
    fn at_least(&mut self, size: usize) -> &mut [u8] {
        if self.len() < size {
            self.resize(size, 0);
        }
        self
    }
}

/// The size of a frame, checked before anything is allocated for it.
///
/// # Errors
/// Where it is negative, or more than any answer we ask for.
pub fn frame_size(bytes: [u8; 4]) -> anyhow::Result<usize> {
    match usize::try_from(i32::from_be_bytes(bytes)) {
        Ok(size) if size <= ANSWER_BYTES_MAX => Ok(size),
        _ => bail!("the broker announces an answer of {} bytes", i32::from_be_bytes(bytes)),
    }
}

/// A request with header and size, as pieces: records that are not there yet are gaps.
///
/// # Errors
/// Where the version cannot say it.
pub fn encode<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
) -> anyhow::Result<Vec<EncodedPiece>> {
    Ok(frame::encode_request(correlation_id, Some(&CLIENT_ID), version, request)?)
}

/// Reads an answer behind its size.
///
/// # Errors
/// Where it is another request's, or not what the protocol says.
pub fn decode<R: Request>(answer: Bytes, version: i16, correlation_id: i32) -> anyhow::Result<R::Response> {
    let mut decoder = Decoder::new(answer);
    let header = frame::ResponseHeader::decode(&mut decoder, R::KEY, version)?;
    if header.correlation_id != correlation_id {
        bail!("an answer to request {} came where {correlation_id} was due", header.correlation_id);
    }
    Ok(decode_whole(&mut decoder, version)?)
}

fn connect_any(address: &Address, timeout: Duration) -> anyhow::Result<Socket> {
    let candidates: Vec<SockAddr> = match address {
        Address::Unix(path) => vec![SockAddr::unix(path)?],
        Address::Tcp { host, port } => {
            (host.as_str(), *port).to_socket_addrs()?.map(SockAddr::from).collect()
        }
    };
    let mut last = None;
    for candidate in candidates {
        let socket = Socket::new(Domain::from(i32::from(candidate.family())), Type::STREAM, None)?;
        match socket.connect_timeout(&candidate, timeout) {
            Ok(()) => {
                if !candidate.is_unix() {
                    socket.set_tcp_nodelay(true)?;
                }
                return Ok(socket);
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error.into()),
        None => bail!("the name has no address"),
    }
}
