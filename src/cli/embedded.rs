//! `-d DIR` for commands that write: the broker that `serve` runs, inside this process, without a port. The
//! client speaks to it over Unix socket pairs.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::UnixStream;

use crate::cli::exit::usage;
use crate::client::{Bootstrap, Dial};
use crate::config::{BrokerConfig, Layers};
use crate::observe;
use crate::server::{Broker, BrokerOptions, StartError};
use crate::storage::DirectoryError;
use crate::storage::disk::LockError;

/// A broker in this process.
pub struct Embedded {
    door: Arc<Door>,
}

/// Why the broker did not start, and what to do where another one runs.
fn refused(dir: &Path, error: StartError) -> anyhow::Error {
    match error {
        StartError::Directory(DirectoryError::Lock(held @ LockError::Held { .. })) => {
            anyhow::anyhow!("{held}: use -b HOST:PORT")
        }
        // They name the directory themselves.
        StartError::Directory(error) => error.into(),
        error => anyhow::Error::from(error).context(dir.display().to_string()),
    }
}

async fn start(dir: &Path, layers: Layers, listens: bool) -> anyhow::Result<Broker> {
    observe::log_to_stderr("warn");
    let layers = Layers { dirs: vec![dir.to_owned()], ..layers };
    let (config, _) = BrokerConfig::load(layers).map_err(|error| usage(error.to_string()))?;
    let options = BrokerOptions { listens, ..BrokerOptions::new(config) };
    Broker::start(options).await.map_err(|error| refused(dir, error))
}

/// The broker while it runs.
struct Door {
    broker: Mutex<Option<Broker>>,
}

impl Embedded {
    /// Starts the broker on `dir`, on the current runtime; a new directory is formatted.
    ///
    /// # Errors
    /// Where the directory cannot be used: another broker has it, its disk fails, it is of a newer format.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let broker = start(dir, Layers::default(), false).await?;
        Ok(Self { door: Arc::new(Door { broker: Mutex::new(Some(broker)) }) })
    }

    /// As [`Embedded::start`], with a port that the system chooses; returns where it listens besides.
    ///
    /// # Errors
    /// As [`Embedded::start`].
    pub async fn listening(dir: &Path) -> anyhow::Result<(Self, String)> {
        let layers = Layers { listen: vec!["127.0.0.1:0".to_owned()], ..Layers::default() };
        let broker = start(dir, layers, true).await?;
        let address = broker.ready().listeners.first().map(ToString::to_string).unwrap_or_default();
        Ok((Self { door: Arc::new(Door { broker: Mutex::new(Some(broker)) }) }, address))
    }

    /// How clients in this process reach it.
    #[must_use]
    pub fn bootstrap(&self) -> Bootstrap {
        Bootstrap::Dial(Arc::<Door>::clone(&self.door))
    }

    /// Stops in order; everything is on disk when this returns.
    ///
    /// # Errors
    /// Where not every directory is clean.
    pub async fn stop(self) -> anyhow::Result<()> {
        let broker = self.door.broker.lock().take();
        match broker {
            Some(broker) => Ok(broker.shutdown().await?),
            None => Ok(()),
        }
    }
}

impl Dial for Door {
    fn dial(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        match &*self.broker.lock() {
            Some(broker) => broker.attach(theirs),
            None => return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the broker has stopped")),
        }
        Ok(ours)
    }
}
