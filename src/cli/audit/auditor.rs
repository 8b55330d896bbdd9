//! Writes what an end of a pipeline has counted to the monitoring topic, every few seconds and at its end: a thread of its
//! own, so that neither end waits for it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::cli::args::{Connection, Target};
use crate::cli::audit::tally::{Count, Counted, Side, Tally, VERSION};
use crate::cli::exit::usage;
use crate::client::{
    Bootstrap, ClientOptions, Cluster, Delivery, NewRecord, Producer, ProducerOptions, TopicHandle,
};
use crate::record::HeaderRef;
use crate::types::{TopicName, Uuid};

/// How often counts are written.
const REPORT: Duration = Duration::from_secs(10);
/// After so many times without news it is said that the session is still at work.
const QUIET_MAX: u32 = 6;

/// Flags of the commands that count.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditArgs {
    /// Count records by topic and minute, and write the counts to this topic, for 'klamm audit'
    #[arg(long, value_name = "TOPIC")]
    audit: Option<String>,

    /// The name to count under; records may be read by several names, each of which should get all of them
    /// [default: the group, else the client.id]
    #[arg(long, value_name = "NAME", requires = "audit")]
    audit_as: Option<String>,
}

/// See the module.
pub struct Auditor {
    tally: Arc<Mutex<Tally>>,
    close: oneshot::Sender<()>,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// Who counts.
struct Identity {
    side: Side,
    name: String,
    session: String,
    since: i64,
}

impl Auditor {
    /// Begins to count, if the flags say so; the monitoring topic is there when this returns.
    ///
    /// # Errors
    /// Wrong usage, or a cluster that does not take counts.
    pub fn start(
        args: &AuditArgs,
        side: Side,
        name: Option<&str>,
        connection: &Connection,
        client: &ClientOptions,
    ) -> anyhow::Result<Option<Self>> {
        let Some(topic) = args.audit.clone() else { return Ok(None) };
        TopicName::new(&topic).map_err(|error| usage(format!("'--audit': {error}")))?;
        let Target::Cluster(list) = connection.target()? else {
            return Err(usage("'--audit' needs a server: say which with '-b HOST:PORT'"));
        };
        let bootstrap = Bootstrap::parse(&list).map_err(|error| usage(format!("'--bootstrap': {error}")))?;
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let identity = Identity {
            side,
            name: args.audit_as.as_deref().or(name).unwrap_or(&client.client_id).to_owned(),
            session: Uuid::from_random_bytes(bytes).to_string(),
            since: client.clock.now_ms(),
        };
        let (tally, client) = (Arc::<Mutex<Tally>>::default(), client.clone());
        let (close, closing) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let counted = Arc::clone(&tally);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut writer = match Writer::open(bootstrap, client, &topic, identity).await {
                    Ok(writer) => writer,
                    Err(error) => {
                        let _ = ready.send(Err(error));
                        return Ok(());
                    }
                };
                let _ = ready.send(Ok(()));
                writer.run(&counted, closing).await
            })
        };
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(work)?;
        is_ready.recv()??;
        Ok(Some(Self { tally, close, thread }))
    }

    /// What is counted.
    #[must_use]
    pub fn tally(&self) -> Arc<Mutex<Tally>> {
        Arc::clone(&self.tally)
    }

    /// Writes the last counts, and that they are the last.
    ///
    /// # Errors
    /// Counts that were not acknowledged.
    pub fn close(self) -> anyhow::Result<()> {
        let _ = self.close.send(());
        self.thread.join().map_err(|_| anyhow::anyhow!("the audit's thread has failed"))?
    }
}

struct Writer {
    identity: Identity,
    client: ClientOptions,
    producer: Producer,
    topic: TopicHandle,
    delivered: mpsc::UnboundedReceiver<Delivery>,
    failed: Option<String>,
    quiet: u32,
}

impl Writer {
    async fn open(
        bootstrap: Bootstrap,
        client: ClientOptions,
        topic: &str,
        identity: Identity,
    ) -> anyhow::Result<Self> {
        let cluster = Cluster::connect(bootstrap, client.clone()).await?;
        let (mut producer, delivered) = Producer::start(cluster, ProducerOptions::default())?;
        let topic = producer.open_topic(topic).await?;
        Ok(Self { identity, client, producer, topic, delivered, failed: None, quiet: 0 })
    }

    async fn run(&mut self, tally: &Mutex<Tally>, mut closing: oneshot::Receiver<()>) -> anyhow::Result<()> {
        let clock = Arc::clone(&self.client.clock);
        loop {
            let is_closing = tokio::select! {
                _ = &mut closing => true,
                () = clock.wait(REPORT) => false,
            };
            let changed = tally.lock().changed();
            self.quiet = if changed.is_empty() { self.quiet + 1 } else { 0 };
            let is_quiet = self.quiet >= QUIET_MAX;
            for counted in changed {
                self.write(Some(counted), false)?;
            }
            if is_closing || is_quiet {
                self.quiet = 0;
                self.write(None, is_closing)?;
            }
            self.producer.flush().await;
            self.hear();
            if is_closing {
                return match self.failed.take() {
                    Some(why) => Err(anyhow::anyhow!("counts for the audit were not acknowledged: {why}")),
                    None => Ok(()),
                };
            }
        }
    }

    fn write(&mut self, counted: Option<Counted>, closed: bool) -> anyhow::Result<()> {
        let Identity { side, name, session, since } = &self.identity;
        let at = self.client.clock.now_ms();
        // What is said again about the same bucket takes the place of what was said before, in a compacted topic too.
        let key = match &counted {
            Some(counted) => format!("{session}/{}/{}", counted.topic, counted.bucket),
            None => session.clone(),
        };
        let count = Count {
            audit: VERSION,
            side: *side,
            name: name.clone(),
            session: session.clone(),
            since: *since,
            at,
            closed,
            counted,
        };
        let value = serde_json::to_vec(&count)?;
        let record =
            NewRecord { partition: None, timestamp_ms: at, key: Some(key.as_bytes()), value: Some(&value) };
        self.producer.append(self.topic, record, std::iter::empty::<HeaderRef<'_>>(), 0)?;
        Ok(())
    }

    fn hear(&mut self) {
        while let Ok(delivery) = self.delivered.try_recv() {
            if let Err(error) = delivery.outcome {
                self.failed = Some(error.to_string());
            }
        }
    }
}
