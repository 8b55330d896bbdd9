//! Arguments that many commands share.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::directory::Directory;
use crate::cli::embedded::Embedded;
use crate::cli::exit::{Exit, block_on, usage};
use crate::cli::output::Output;
use crate::client::{Bootstrap, ClientConfig, Cluster};
use crate::types::parse_duration;

/// Where a command that neither flag nor environment points anywhere connects to.
const DEFAULT_BOOTSTRAP: &str = "localhost:9092";

/// The heading of what says where a command works, in every help.
pub const WHERE_TO: &str = "Where to";

/// Which cluster or which directory, and how to talk to it: `#[command(flatten)] connection: Connection`.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// Brokers to ask first; also unix:PATH [env: KLAMM_BOOTSTRAP] [default: localhost:9092]
    #[arg(short, long, value_name = "HOST:PORT[,…]", conflicts_with = "dir", help_heading = WHERE_TO)]
    pub bootstrap: Option<String>,

    /// A log directory, klamm's or Apache Kafka's, instead of a server [env: KLAMM_DIR]
    #[arg(short, long, value_name = "DIR", help_heading = WHERE_TO)]
    pub dir: Option<PathBuf>,

    /// Give up when no broker answers for this long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration,
          help_heading = WHERE_TO)]
    pub timeout: Duration,

    /// Set a client property by its Java name or librdkafka's
    #[arg(short = 'X', value_name = "KEY=VALUE", value_parser = parse_property, help_heading = WHERE_TO)]
    pub x: Vec<(String, String)>,
}

/// What [`Connection`] points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A running cluster, by its bootstrap list.
    Cluster(String),
    /// A log directory.
    Dir(PathBuf),
}

impl Connection {
    /// The target: the flag, else the environment, else [`DEFAULT_BOOTSTRAP`].
    ///
    /// # Errors
    /// A usage mistake where the environment names both and no flag decides.
    pub fn target(&self) -> anyhow::Result<Target> {
        self.target_with(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// What `-X` and `--timeout` come to; what has no effect here is said.
    ///
    /// # Errors
    /// A usage mistake for a property that does not exist, or a value that is not one of its.
    pub fn client_config(&self, output: &mut Output) -> anyhow::Result<ClientConfig> {
        let mut config = ClientConfig::default();
        config.client.bootstrap_timeout = self.timeout;
        let properties = self.x.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let notes = config.set_all(properties).map_err(|error| usage(format!("'-X': {error}")))?;
        for note in notes {
            output.warn(note);
        }
        Ok(config)
    }

    /// Connects to the cluster that is meant. For commands that read; with `-d` they read the directory
    /// themselves, and never come here.
    ///
    /// # Errors
    /// Where no broker answers within the timeout.
    pub async fn cluster(&self, output: &mut Output) -> anyhow::Result<Cluster> {
        match self.target()? {
            Target::Cluster(bootstrap) => {
                let bootstrap =
                    Bootstrap::parse(&bootstrap).map_err(|error| usage(format!("'--bootstrap': {error}")))?;
                Ok(Cluster::connect(bootstrap, self.client_config(output)?.client).await?)
            }
            Target::Dir(_) => Err(usage("this needs a server: say which with '-b HOST:PORT'")),
        }
    }

    /// Runs `work`, which changes what exists, against what is meant: a cluster, or a broker inside this
    /// process on a directory, which must be one already.
    ///
    /// # Errors
    /// Where no broker answers, the directory cannot be used, or `work` fails.
    pub fn for_changing<F>(&self, output: &mut Output, work: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(Cluster, &mut Output) -> anyhow::Result<Exit>,
    {
        if let Target::Dir(dir) = self.target()? {
            Directory::open(&dir)?;
        }
        self.for_writing(output, work)
    }

    /// The same for `work` that may be the first: a directory that is none yet is formatted.
    ///
    /// # Errors
    /// Where no broker answers, the directory cannot be used, or `work` fails.
    pub fn for_writing<F>(&self, output: &mut Output, work: F) -> anyhow::Result<Exit>
    where
        F: AsyncFnOnce(Cluster, &mut Output) -> anyhow::Result<Exit>,
    {
        match self.target()? {
            Target::Cluster(_) => block_on(0, async {
                let cluster = self.cluster(output).await?;
                work(cluster, output).await
            }),
            Target::Dir(dir) => {
                let config = self.client_config(output)?;
                block_on(2, async {
                    let embedded = Embedded::start(&dir).await?;
                    let outcome = match Cluster::connect(embedded.bootstrap(), config.client).await {
                        Ok(cluster) => work(cluster, output).await,
                        Err(error) => Err(error.into()),
                    };
                    // What was done is to be on disk before anything is said about it.
                    embedded.stop().await?;
                    outcome
                })
            }
        }
    }

    fn target_with(&self, environment: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<Target> {
        if let Some(bootstrap) = &self.bootstrap {
            return Ok(Target::Cluster(bootstrap.clone()));
        }
        if let Some(dir) = &self.dir {
            return Ok(Target::Dir(dir.clone()));
        }
        match (environment("KLAMM_BOOTSTRAP"), environment("KLAMM_DIR")) {
            (Some(_), Some(_)) => Err(usage(
                "KLAMM_BOOTSTRAP and KLAMM_DIR are both set: say which with '-b HOST:PORT' or '-d DIR', or unset one",
            )),
            (Some(bootstrap), None) => match bootstrap.into_string() {
                Ok(bootstrap) => Ok(Target::Cluster(bootstrap)),
                Err(_) => Err(usage("KLAMM_BOOTSTRAP is not UTF-8: HOST:PORT[,…] is expected")),
            },
            (None, Some(dir)) => Ok(Target::Dir(dir.into())),
            (None, None) => Ok(Target::Cluster(DEFAULT_BOOTSTRAP.to_owned())),
        }
    }
}

/// Reads `key=value`; the value may be empty and may hold further `=`.
///
/// # Errors
/// A message for clap where there is no `=` or no key.
pub fn parse_property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is expected".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(bootstrap: Option<&str>, dir: Option<&str>) -> Connection {
        Connection {
            bootstrap: bootstrap.map(str::to_owned),
            dir: dir.map(PathBuf::from),
            timeout: Duration::from_secs(5),
            x: Vec::new(),
        }
    }

    #[test]
    fn flags_beat_the_environment_and_two_variables_need_one() {
        let both = |name: &str| Some(OsString::from(if name == "KLAMM_DIR" { "/d" } else { "h:1" }));
        let flagged = connection(None, Some("/flag")).target_with(both).unwrap();
        assert_eq!(flagged, Target::Dir("/flag".into()));
        let flagged = connection(Some("f:1"), None).target_with(both).unwrap();
        assert_eq!(flagged, Target::Cluster("f:1".into()));
        let error = connection(None, None).target_with(both).unwrap_err();
        assert!(error.is::<crate::cli::exit::Usage>());
        let neither = connection(None, None).target_with(|_| None).unwrap();
        assert_eq!(neither, Target::Cluster(DEFAULT_BOOTSTRAP.into()));
    }

    #[test]
    fn properties_are_pairs() {
        assert_eq!(parse_property("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_property("a="), Ok(("a".into(), String::new())));
        assert!(parse_property("=b").is_err());
        assert!(parse_property("a").is_err());
    }
}
