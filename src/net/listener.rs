//! Doors to the broker: bound sockets, and the task that accepts on each.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Type};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::budget::Budget;
use super::connection::Connection;
use super::quotas::{ConnectionQuotas, Place};
use super::socket::Socket;
use super::{Limits, Peer, Service};
use crate::config::ListenAddress;
use crate::types::Clock;

/// How long to wait when the process has no file descriptor left for a connection.
const NO_DESCRIPTORS_WAIT: Duration = Duration::from_millis(200);

/// Why nothing can listen at an address.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another program listens there.
    #[error("{0} is already in use by another program; stop it or listen elsewhere (--listen HOST:PORT)")]
    InUse(ListenAddress),
    /// The host name means no address.
    #[error("{address}: the host name does not resolve: {error}")]
    Unresolved {
        /// Where was to be listened.
        address: ListenAddress,
        /// What the resolver says.
        error: io::Error,
    },
    /// Anything else the system says.
    #[error("cannot listen on {address}: {error}")]
    Io {
        /// Where was to be listened.
        address: ListenAddress,
        /// What the system says.
        error: io::Error,
    },
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    address: ListenAddress,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "acts when it is dropped")] UnlinkOnDrop),
}

/// The socket file goes with its listener.
#[derive(Debug)]
struct UnlinkOnDrop(PathBuf);

impl Drop for UnlinkOnDrop {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds `address`. Must be called inside the runtime that will accept.
    ///
    /// # Errors
    /// [`BindError`], with what to do.
    pub fn bind(name: &str, address: &ListenAddress, backlog: i32) -> Result<Self, BindError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address.clone()),
            _ => BindError::Io { address: address.clone(), error },
        };
        let (inner, bound) = match address {
            ListenAddress::Unix(path) => {
                let listener = bind_unix(path).map_err(failed)?;
                let listener = UnixListener::from_std(listener).map_err(failed)?;
                (Inner::Unix(listener, UnlinkOnDrop(path.clone())), address.clone())
            }
            ListenAddress::Tcp { host, port } => {
                let listener = bind_tcp(address, host, *port, backlog, failed)?;
                let bound_port = listener.local_addr().map_err(failed)?.port();
                let listener = TcpListener::from_std(listener).map_err(failed)?;
                (Inner::Tcp(listener), ListenAddress::Tcp { host: host.clone(), port: bound_port })
            }
        };
        Ok(Self { name: name.into(), address: bound, inner })
    }

    /// The listener's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address with the real port.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        let listener = Arc::clone(&self.name);
        match &self.inner {
            Inner::Tcp(tcp) => {
                let (stream, from) = tcp.accept().await?;
                let ip = from.ip().to_canonical();
                let address = SocketAddr::new(ip, from.port()).to_string().into();
                Ok((Socket::Tcp(stream), Peer { listener, address, ip: Some(ip) }))
            }
            Inner::Unix(unix, _) => {
                let (stream, _) = unix.accept().await?;
                Ok((Socket::Unix(stream), Peer { listener, address: "unix".into(), ip: None }))
            }
        }
    }
}

fn bind_tcp(
    address: &ListenAddress,
    host: &str,
    port: u16,
    backlog: i32,
    failed: impl Fn(io::Error) -> BindError,
) -> Result<StdTcpListener, BindError> {
    if host.is_empty() {
        // Every interface of both families; IPv4 alone where the machine has no IPv6.
        return listen_on(([0; 16], port).into(), backlog)
            .or_else(|_| listen_on(([0; 4], port).into(), backlog))
            .map_err(failed);
    }
    let unresolved = |error| BindError::Unresolved { address: address.clone(), error };
    let resolved = (host, port).to_socket_addrs().map_err(unresolved)?.next();
    let resolved = resolved.ok_or_else(|| unresolved(io::ErrorKind::NotFound.into()))?;
    listen_on(resolved, backlog).map_err(failed)
}

fn listen_on(address: SocketAddr, backlog: i32) -> io::Result<StdTcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Binds a socket file; one that nobody listens on any more is replaced.
fn bind_unix(path: &Path) -> io::Result<StdUnixListener> {
    let listener = match StdUnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if StdUnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            StdUnixListener::bind(path)?
        }
        bound => bound?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What every connection of a broker shares, and the means to end them all.
#[derive(Debug)]
pub struct Gate<S> {
    shared: Arc<Shared<S>>,
    /// One clone lives in each connection; closed when the last has ended.
    drained: mpsc::Receiver<()>,
}

#[derive(Debug)]
struct Shared<S> {
    service: Arc<S>,
    limits: Arc<Limits>,
    quotas: ConnectionQuotas,
    budget: Budget,
    clock: ClockHandle,
    stop: watch::Sender<Stop>,
    alive: mpsc::Sender<()>,
}

struct ClockHandle(Arc<dyn Clock>);

impl std::fmt::Debug for ClockHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

/// How far a stop has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    No,
    Accepting,
    Reading,
}

impl<S: Service> Gate<S> {
    /// A gate in front of `service`.
    pub fn new(
        service: Arc<S>,
        limits: Limits,
        quotas: ConnectionQuotas,
        budget: Budget,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (alive, drained) = mpsc::channel(1);
        let stop = watch::Sender::new(Stop::No);
        let clock = ClockHandle(clock);
        let shared = Shared { service, limits: Arc::new(limits), quotas, budget, clock, stop, alive };
        Self { shared: Arc::new(shared), drained }
    }

    /// Accepts on `listener` until the gate closes.
    pub fn open(&self, listener: Listener) {
        let shared = Arc::clone(&self.shared);
        let alive = self.shared.alive.clone();
        tokio::spawn(async move {
            let mut stop = shared.stop.subscribe();
            tokio::select! {
                () = accept_forever(&shared, &listener) => {}
                _ = stop.wait_for(|stop| *stop >= Stop::Accepting) => {}
            }
            drop((listener, alive));
        });
    }

    /// Serves a connected stream as if it had been accepted, without counting it.
    pub fn attach(&self, socket: Socket, peer: Peer) {
        serve(&self.shared, socket, peer, None);
    }

    /// Closes the listeners, answers what has been read, and ends every connection; waits for that no
    /// longer than `patience`.
    pub async fn close(mut self, patience: Duration) {
        self.shared.stop.send_replace(Stop::Reading);
        let clock = Arc::clone(&self.shared.clock.0);
        drop(self.shared);
        tokio::select! {
            _ = self.drained.recv() => {}
            () = clock.wait(patience) => warn!("connections still had answers to take after {patience:?}"),
        }
    }
}

async fn accept_forever<S: Service>(shared: &Arc<Shared<S>>, listener: &Listener) {
    loop {
        let place = shared.quotas.place().await;
        match listener.accept().await {
            Ok((socket, peer)) => admit(shared, socket, peer, place),
            Err(error) => {
                warn!(listener = listener.name(), "cannot accept a connection: {error}");
                shared.clock.0.wait(NO_DESCRIPTORS_WAIT).await;
            }
        }
    }
}

fn admit<S: Service>(shared: &Arc<Shared<S>>, socket: Socket, peer: Peer, place: Place) {
    match shared.quotas.admit(place, peer.ip) {
        Ok(place) => {
            if let Socket::Tcp(stream) = &socket {
                set_options(stream, &shared.limits);
            }
            serve(shared, socket, peer, Some(place));
        }
        Err(too_many) => {
            info!(
                peer = &*peer.address,
                "refused: its address has {} connections already (max.connections.per.ip)", too_many.max
            );
        }
    }
}

fn set_options(stream: &tokio::net::TcpStream, limits: &Limits) {
    let socket = SockRef::from(stream);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| limits.send_buffer_bytes.map_or(Ok(()), |bytes| socket.set_send_buffer_size(bytes)))
        .and_then(|()| {
            limits.receive_buffer_bytes.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(bytes))
        });
    if let Err(error) = set {
        // The peer is gone already; the connection will find out.
        debug!("socket options: {error}");
    }
}

fn serve<S: Service>(shared: &Arc<Shared<S>>, socket: Socket, peer: Peer, place: Option<Place>) {
    let clock = Arc::clone(&shared.clock.0);
    let connection = Connection::new(
        socket,
        &peer,
        Arc::clone(&shared.service),
        Arc::clone(&shared.limits),
        &shared.budget,
        clock,
    );
    let mut stop = shared.stop.subscribe();
    let alive = shared.alive.clone();
    tokio::spawn(async move {
        let stopping = async {
            // An error means that the gate is gone, which is a stop as well.
            let _ = stop.wait_for(|stop| *stop >= Stop::Reading).await;
        };
        let closed = connection.run(stopping).await;
        if closed.is_misbehaviour() {
            warn!(peer = &*peer.address, listener = &*peer.listener, "connection closed: {closed}");
        } else {
            debug!(peer = &*peer.address, listener = &*peer.listener, "connection closed: {closed}");
        }
        drop((place, alive));
    });
}
