//! What the broker's keys say about the quorum of controllers: who votes, where the others are, how patient it is.

use super::error::ConfigError;
use super::layers::BrokerLayers;
use super::listeners::{ListenAddress, Listener};

/// Where a controller listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerAddress {
    /// Name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The quorum of a node that is not alone. Times are milliseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct QuorumConfig {
    /// `process.roles` has `controller`: this node may vote, and has a listener for it.
    pub is_controller: bool,
    /// `process.roles` has `broker`: it keeps partitions and serves clients.
    pub is_broker: bool,
    /// `controller.quorum.voters`; empty where the voters stand in the log.
    pub voters: Vec<(i32, ControllerAddress)>,
    /// `controller.quorum.bootstrap.servers`
    pub bootstrap: Vec<ControllerAddress>,
    /// `controller.quorum.election.timeout.ms`
    pub election_timeout_ms: i64,
    /// `controller.quorum.election.backoff.max.ms`
    pub election_backoff_ms_max: i64,
    /// `controller.quorum.fetch.timeout.ms`
    pub fetch_timeout_ms: i64,
    /// `controller.quorum.request.timeout.ms`
    pub request_timeout_ms: i64,
    /// `controller.quorum.retry.backoff.ms`
    pub retry_backoff_ms: i64,
    /// `controller.quorum.auto.join.enable`
    pub joins: bool,
    /// `controller.quorum.fetch.max.bytes`
    pub fetch_bytes_max: usize,
}

impl QuorumConfig {
    /// `None` for a node that is alone: no voters are given, or only itself.
    pub(super) fn resolve(
        layers: &BrokerLayers,
        node_id: Option<i32>,
        listeners: &[Listener],
    ) -> Result<Option<Self>, ConfigError> {
        let roles = layers.list("process.roles")?;
        let has_role = |name: &str| roles.iter().any(|role| role == name);
        let is_controller = has_role("controller");
        let (voter_list, server_list) =
            (layers.list("controller.quorum.voters")?, layers.list("controller.quorum.bootstrap.servers")?);
        let voters: Vec<(i32, ControllerAddress)> =
            voter_list.iter().map(|voter| parse_voter(voter)).collect::<Result<_, _>>()?;
        let bootstrap: Vec<ControllerAddress> =
            server_list.iter().map(|server| parse_server(server)).collect::<Result<_, _>>()?;
        let is_own = |id: i32| node_id.is_none_or(|node_id| node_id == id);
        let own_port = |server: &ControllerAddress| {
            let own = listeners.iter().filter(|listener| listener.controller);
            own.into_iter().any(
                |listener| matches!(listener.address, ListenAddress::Tcp { port, .. } if port == server.port),
            )
        };
        let is_alone = has_role("broker")
            && is_controller
            && voters.len() <= 1
            && voters.iter().all(|(id, _)| is_own(*id))
            && bootstrap.len() <= 1
            && (voters.len() == 1 || bootstrap.iter().all(own_port));
        if is_alone {
            return Ok(None);
        }
        if is_controller && !listeners.iter().any(|listener| listener.controller) {
            let why =
                "a controller of several needs a listener of its own: controller.listener.names, listeners";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        let joins = layers.boolean("controller.quorum.auto.join.enable")?;
        if joins && !is_controller {
            let why =
                "controller.quorum.auto.join.enable is for nodes with the role controller in process.roles";
            return Err(ConfigError::Conflict(why.to_owned()));
        }
        let is_listed = node_id.is_none_or(|id| voters.iter().any(|(voter, _)| *voter == id));
        if !voters.is_empty() && is_listed != is_controller {
            return Err(ConfigError::Conflict(format!(
                "process.roles={}, but controller.quorum.voters={} {} node {}",
                roles.join(","),
                voter_list.join(","),
                if is_listed { "names" } else { "does not name" },
                node_id.unwrap_or_default()
            )));
        }
        Ok(Some(Self {
            is_controller,
            is_broker: has_role("broker"),
            voters,
            bootstrap,
            election_timeout_ms: layers.integer("controller.quorum.election.timeout.ms")?,
            election_backoff_ms_max: layers.integer("controller.quorum.election.backoff.max.ms")?,
            fetch_timeout_ms: layers.integer("controller.quorum.fetch.timeout.ms")?,
            request_timeout_ms: layers.integer("controller.quorum.request.timeout.ms")?,
            retry_backoff_ms: layers.integer("controller.quorum.retry.backoff.ms")?,
            joins,
            fetch_bytes_max: layers.size("controller.quorum.fetch.max.bytes")?,
        }))
    }
}

fn parse_voter(text: &str) -> Result<(i32, ControllerAddress), ConfigError> {
    let wrong = |why: &str| ConfigError::InvalidValue {
        name: "controller.quorum.voters".to_owned(),
        value: text.to_owned(),
        why: why.to_owned(),
    };
    let (id, address) = text.split_once('@').ok_or_else(|| wrong("a voter is ID@HOST:PORT"))?;
    let id = id.trim().parse().ok().filter(|id| *id >= 0).ok_or_else(|| wrong("the id is no node id"))?;
    let address = parse_address(address).ok_or_else(|| wrong("a voter is ID@HOST:PORT"))?;
    Ok((id, address))
}

fn parse_server(text: &str) -> Result<ControllerAddress, ConfigError> {
    parse_address(text).ok_or_else(|| ConfigError::InvalidValue {
        name: "controller.quorum.bootstrap.servers".to_owned(),
        value: text.to_owned(),
        why: "a server is HOST:PORT".to_owned(),
    })
}

fn parse_address(text: &str) -> Option<ControllerAddress> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| ControllerAddress { host: host.to_owned(), port })
}

/// The keys that `--quorum ID@HOST:PORT,…` stands for: the node's own entry is its controller listener.
pub(super) fn from_flag(
    quorum: &str,
    node_id: Option<i32>,
    listeners: &str,
) -> Result<Vec<(String, String)>, ConfigError> {
    let entries: Vec<&str> = quorum.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    let voters: Vec<(i32, ControllerAddress)> = entries
        .iter()
        .map(|entry| parse_voter(entry))
        .collect::<Result<_, _>>()
        .map_err(|_| ConfigError::Conflict(format!("--quorum {quorum}: expected ID@HOST:PORT,…")))?;
    let node_id = node_id
        .ok_or_else(|| ConfigError::Conflict("--quorum: say which node this is (--node ID)".to_owned()))?;
    let own = voters.iter().find(|(id, _)| *id == node_id);
    let mut settings = vec![
        ("controller.quorum.voters".to_owned(), entries.join(",")),
        ("controller.listener.names".to_owned(), "CONTROLLER".to_owned()),
    ];
    let roles = if own.is_some() { "broker,controller" } else { "broker" };
    settings.push(("process.roles".to_owned(), roles.to_owned()));
    if let Some((_, address)) = own {
        let host =
            if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
        let listeners = format!("{listeners},CONTROLLER://{host}:{}", address.port);
        settings.push(("listeners".to_owned(), listeners));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_own_entry_is_its_controller_listener() {
        let settings = from_flag("1@a:1, 2@[::1]:2", Some(2), "PLAINTEXT://h:9").unwrap();
        let of = |name: &str| settings.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(of("controller.quorum.voters"), Some("1@a:1,2@[::1]:2"));
        assert_eq!(of("listeners"), Some("PLAINTEXT://h:9,CONTROLLER://[::1]:2"));
        assert_eq!(of("process.roles"), Some("broker,controller"));
        let observer = from_flag("1@a:1", Some(7), "PLAINTEXT://h:9").unwrap();
        assert!(observer.iter().any(|(key, value)| key == "process.roles" && value == "broker"));
        assert!(observer.iter().all(|(key, _)| key != "listeners"));
        for (quorum, node) in [("1@a", Some(1)), ("a:1", Some(1)), ("-1@a:1", Some(1)), ("1@a:1", None)] {
            assert!(from_flag(quorum, node, "PLAINTEXT://h:9").is_err(), "{quorum}");
        }
    }
}
