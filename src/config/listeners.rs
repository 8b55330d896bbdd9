//! Listeners: `NAME://host:port` lists, the map from names to security protocols, and what clients are told.
//!
//! IPv6 addresses stand in brackets, an empty host is every address of the machine, port 0 takes a free
//! one, and `NAME://unix:PATH` (or `unix:PATH` alone) is a Unix socket. Names are upper case, as in Kafka.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::broker::default_text;
use super::error::ConfigError;

/// What is spoken on a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL inside TLS.
    SaslSsl,
}

/// Where a listener listens, or where clients find it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ListenAddress {
    /// A TCP port. An empty host is every address where one listens, and this machine's name where it is
    /// told to clients; port 0 is "any" and "the one that was taken".
    Tcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// One address the broker listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The listener's name, upper case.
    pub name: String,
    /// What is spoken on it.
    pub protocol: SecurityProtocol,
    /// Where it listens.
    pub address: ListenAddress,
    /// It serves the quorum of controllers, not clients.
    pub controller: bool,
}

/// What clients are told about one listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdvertisedListener {
    /// The listener's name, upper case.
    pub name: String,
    /// What is spoken on it.
    pub protocol: SecurityProtocol,
    /// Where clients find it.
    pub address: ListenAddress,
    /// It serves the quorum of controllers, not clients.
    pub controller: bool,
}

impl SecurityProtocol {
    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// Kafka's number, as metadata records carry it.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            Self::Plaintext => 0,
            Self::Ssl => 1,
            Self::SaslPlaintext => 2,
            Self::SaslSsl => 3,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl]
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }
}

impl ListenAddress {
    /// Reads `host:port`, `[::1]:port`, `:port` or `unix:PATH`.
    ///
    /// # Errors
    /// What is wrong, without the key it stands in.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("a path must follow \"unix:\"".to_owned()),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let expected = || format!("{text:?} is not HOST:PORT, [IPV6]:PORT or unix:PATH");
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse::<u16>().map_err(|_| format!("{port:?} is not a port (0 to 65535)"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
        if host.chars().all(legal) { Ok(Self::Tcp { host: host.to_owned(), port }) } else { Err(expected()) }
    }

    /// Whether it stands for every address of the machine.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Tcp { host, .. } if matches!(host.as_str(), "" | "0.0.0.0" | "::" | "0:0:0:0:0:0:0:0"))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn invalid(key: &str, value: &str, why: impl Into<String>) -> ConfigError {
    ConfigError::InvalidValue { name: key.to_owned(), value: value.to_owned(), why: why.into() }
}

/// `NAME:PROTOCOL` pairs by name.
pub(super) fn parse_protocol_map(text: &str) -> Result<BTreeMap<String, SecurityProtocol>, ConfigError> {
    const KEY: &str = "listener.security.protocol.map";
    let mut map = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, protocol) = entry
            .split_once(':')
            .ok_or_else(|| invalid(KEY, text, format!("{entry:?} is not NAME:PROTOCOL")))?;
        let protocol = SecurityProtocol::from_name(protocol.trim()).ok_or_else(|| {
            invalid(KEY, text, format!("{protocol:?} is not PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"))
        })?;
        if map.insert(name.trim().to_ascii_uppercase(), protocol).is_some() {
            return Err(invalid(KEY, text, format!("{name} stands in the map twice")));
        }
    }
    Ok(map)
}

/// Names and addresses of a `listeners` or `advertised.listeners` value.
pub(super) fn parse_endpoints(key: &str, text: &str) -> Result<Vec<(String, ListenAddress)>, ConfigError> {
    let mut endpoints = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, address) = match entry.split_once("://") {
            Some((name, address)) if !name.is_empty() => (name.to_ascii_uppercase(), address),
            _ if entry.starts_with("unix:") => ("UNIX".to_owned(), entry),
            _ => return Err(invalid(key, text, format!("{entry:?} is not NAME://HOST:PORT"))),
        };
        let address = ListenAddress::parse(address).map_err(|why| invalid(key, text, why))?;
        endpoints.push((name, address));
    }
    Ok(endpoints)
}

/// What the listener keys of a broker say together.
pub(super) struct ListenerSettings<'a> {
    pub listeners: &'a str,
    pub advertised: Option<&'a str>,
    pub protocol_map: &'a str,
    /// The map was set by somebody, not Kafka's default.
    pub protocol_map_is_set: bool,
    pub controller_names: &'a [String],
    /// Only a controller listens by these names; a broker calls by them.
    pub is_controller: bool,
    /// Only a broker serves clients.
    pub is_broker: bool,
}

impl ListenerSettings<'_> {
    /// Checks all of them against each other.
    pub(super) fn resolve(&self) -> Result<(Vec<Listener>, Vec<AdvertisedListener>), ConfigError> {
        let endpoints = parse_endpoints("listeners", self.listeners)?;
        self.check_distinct(&endpoints)?;
        let controllers: Vec<String> =
            self.controller_names.iter().map(|name| name.to_ascii_uppercase()).collect();
        self.check_controllers(&controllers, &endpoints)?;
        let map = self.protocols(&controllers)?;
        let mut listeners = Vec::new();
        for (name, address) in endpoints {
            let protocol = self.protocol(&map, &name)?;
            let controller = controllers.contains(&name);
            listeners.push(Listener { name, protocol, address, controller });
        }
        if self.is_broker && listeners.iter().all(|listener| listener.controller) {
            return Err(invalid("listeners", self.listeners, "a broker needs a listener for clients"));
        }
        if let Some(other) = listeners.iter().find(|listener| !self.is_broker && !listener.controller) {
            let why = format!("{} is for clients, and a controller alone serves none", other.name);
            return Err(invalid("listeners", self.listeners, why));
        }
        let advertised = self.advertised(&listeners)?;
        Ok((listeners, advertised))
    }

    /// As in Kafka, a controller listener without a protocol of its own speaks PLAINTEXT as long as
    /// nobody has set the map.
    fn protocols(&self, controllers: &[String]) -> Result<BTreeMap<String, SecurityProtocol>, ConfigError> {
        let mut map = parse_protocol_map(self.protocol_map)?;
        if !self.protocol_map_is_set {
            for name in controllers {
                map.entry(name.clone()).or_insert(SecurityProtocol::Plaintext);
            }
        }
        map.entry("UNIX".to_owned()).or_insert(SecurityProtocol::Plaintext);
        Ok(map)
    }

    fn protocol(
        &self,
        map: &BTreeMap<String, SecurityProtocol>,
        name: &str,
    ) -> Result<SecurityProtocol, ConfigError> {
        let protocol = *map.get(name).ok_or_else(|| {
            let why = format!("listener {name} has no security protocol in listener.security.protocol.map");
            invalid("listeners", self.listeners, why)
        })?;
        let part = match protocol {
            SecurityProtocol::Plaintext => return Ok(protocol),
            SecurityProtocol::Ssl => "TLS",
            SecurityProtocol::SaslPlaintext => "SASL",
            SecurityProtocol::SaslSsl => "TLS and SASL",
        };
        Err(ConfigError::NotBuilt {
            name: "listeners".to_owned(),
            value: self.listeners.to_owned(),
            part: format!("{part} for listener {name}"),
        })
    }

    /// Names are used once, ports too, but for one port on an IPv4 and an IPv6 address.
    fn check_distinct(&self, endpoints: &[(String, ListenAddress)]) -> Result<(), ConfigError> {
        let is_v6 = |address: &ListenAddress| matches!(address, ListenAddress::Tcp { host, .. } if host.contains(':'));
        for (index, (name, address)) in endpoints.iter().enumerate() {
            for (other_name, other) in &endpoints[..index] {
                let same_port = match (address, other) {
                    (ListenAddress::Tcp { port: a, .. }, ListenAddress::Tcp { port: b, .. }) => {
                        a == b && *a != 0
                    }
                    _ => address == other,
                };
                let both_families = is_v6(address) != is_v6(other);
                if name == other_name {
                    return Err(invalid(
                        "listeners",
                        self.listeners,
                        format!("the name {name} is used twice"),
                    ));
                }
                if same_port && !both_families && self.same_host(address, other) {
                    return Err(invalid("listeners", self.listeners, format!("{address} is used twice")));
                }
            }
        }
        Ok(())
    }

    /// Two hosts of one family share a port only where neither is every address.
    fn same_host(&self, left: &ListenAddress, right: &ListenAddress) -> bool {
        left.is_wildcard() || right.is_wildcard() || left == right
    }

    fn check_controllers(
        &self,
        controllers: &[String],
        endpoints: &[(String, ListenAddress)],
    ) -> Result<(), ConfigError> {
        let missing = controllers.iter().all(|name| endpoints.iter().all(|(known, _)| known != name));
        if missing && self.is_controller && !controllers.is_empty() {
            return Err(ConfigError::Conflict(format!(
                "controller.listener.names={} names no listener of listeners={}",
                controllers.join(","),
                self.listeners
            )));
        }
        Ok(())
    }

    fn advertised(&self, listeners: &[Listener]) -> Result<Vec<AdvertisedListener>, ConfigError> {
        const KEY: &str = "advertised.listeners";
        let told = |listener: &Listener, address: ListenAddress| AdvertisedListener {
            name: listener.name.clone(),
            protocol: listener.protocol,
            address,
            controller: listener.controller,
        };
        let Some(text) = self.advertised.filter(|text| !text.trim().is_empty()) else {
            return Ok(listeners.iter().map(|listener| told(listener, named(&listener.address))).collect());
        };
        let mut advertised: Vec<AdvertisedListener> = Vec::new();
        for (name, address) in parse_endpoints(KEY, text)? {
            let listener = listeners.iter().find(|listener| listener.name == name).ok_or_else(|| {
                invalid(KEY, text, format!("{name} is not among the names of listeners={}", self.listeners))
            })?;
            if matches!(&address, ListenAddress::Tcp { host, .. } if !host.is_empty())
                && address.is_wildcard()
            {
                return Err(invalid(KEY, text, format!("clients cannot connect to {address}; name a host")));
            }
            if advertised.iter().any(|known| known.name == name) {
                return Err(invalid(KEY, text, format!("the name {name} is used twice")));
            }
            advertised.push(told(listener, address));
        }
        // A controller listener, or one on a Unix socket, that is not named is told as it is.
        for listener in listeners {
            let local = listener.controller || matches!(listener.address, ListenAddress::Unix(_));
            if local && advertised.iter().all(|known| known.name != listener.name) {
                advertised.push(told(listener, named(&listener.address)));
            }
        }
        if self.is_broker && advertised.iter().all(|listener| listener.controller) {
            return Err(invalid(KEY, text, "no listener for clients is advertised"));
        }
        Ok(advertised)
    }
}

/// "Every address" is told to clients as this machine's name.
fn named(address: &ListenAddress) -> ListenAddress {
    match address {
        ListenAddress::Tcp { port, .. } if address.is_wildcard() => {
            ListenAddress::Tcp { host: String::new(), port: *port }
        }
        other => other.clone(),
    }
}

/// The listener keys that `--listen` and `--advertise` stand for.
///
/// `--listen` replaces the listeners for clients and keeps the controller's; `--advertise` tells the
/// address of the first, second, … TCP listener.
pub(super) fn from_flags(
    listen: &[String],
    advertise: &[String],
    configured: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let current = |name: &str| configured.get(name).cloned().unwrap_or_else(|| default_text(name));
    let mut endpoints = parse_endpoints("listeners", &current("listeners"))?;
    let mut map = current("listener.security.protocol.map");
    let mut settings = Vec::new();
    if !listen.is_empty() {
        let controllers = current("controller.listener.names").to_ascii_uppercase();
        endpoints.retain(|(name, _)| controllers.split(',').any(|known| known.trim() == name));
        let mut own = Vec::new();
        for text in listen {
            let address = ListenAddress::parse(text)
                .map_err(|why| ConfigError::Conflict(format!("--listen {text}: {why}")))?;
            let stem = if matches!(address, ListenAddress::Unix(_)) { "UNIX" } else { "PLAINTEXT" };
            let taken = own.iter().filter(|(name, _): &&(String, _)| name.starts_with(stem)).count();
            let name = if taken == 0 { stem.to_owned() } else { format!("{stem}_{}", taken + 1) };
            if !parse_protocol_map(&map)?.contains_key(&name) {
                map = format!("{map},{name}:PLAINTEXT");
            }
            own.push((name, address));
        }
        for name in controllers.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if !parse_protocol_map(&map)?.contains_key(name) {
                map = format!("{map},{name}:PLAINTEXT");
            }
        }
        own.append(&mut endpoints);
        endpoints = own;
        if map != current("listener.security.protocol.map") {
            settings.push(("listener.security.protocol.map".to_owned(), map));
        }
        settings.push(("listeners".to_owned(), print_endpoints(&endpoints)));
        settings.push(("advertised.listeners".to_owned(), String::new()));
    }
    if !advertise.is_empty() {
        let tcp = endpoints.iter().filter(|(_, address)| matches!(address, ListenAddress::Tcp { .. }));
        let mut told = Vec::new();
        for (text, (name, _)) in advertise.iter().zip(tcp) {
            let address = ListenAddress::parse(text)
                .map_err(|why| ConfigError::Conflict(format!("--advertise {text}: {why}")))?;
            told.push((name.clone(), address));
        }
        if told.len() < advertise.len() {
            return Err(ConfigError::Conflict("more --advertise than listeners to advertise".to_owned()));
        }
        settings.retain(|(name, _)| name != "advertised.listeners");
        settings.push(("advertised.listeners".to_owned(), print_endpoints(&told)));
    }
    Ok(settings)
}

fn print_endpoints(endpoints: &[(String, ListenAddress)]) -> String {
    let printed: Vec<String> =
        endpoints.iter().map(|(name, address)| format!("{name}://{address}")).collect();
    printed.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT,IN:PLAINTEXT";

    fn resolve(
        listeners: &str,
        advertised: Option<&str>,
        controllers: &[&str],
    ) -> Result<(Vec<Listener>, Vec<AdvertisedListener>), String> {
        let controller_names: Vec<String> = controllers.iter().map(|name| (*name).to_owned()).collect();
        ListenerSettings {
            listeners,
            advertised,
            protocol_map: MAP,
            protocol_map_is_set: true,
            controller_names: &controller_names,
            is_controller: true,
            is_broker: true,
        }
        .resolve()
        .map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_of_every_form_are_read() {
        let tcp = |host: &str, port| ListenAddress::Tcp { host: host.to_owned(), port };
        assert_eq!(ListenAddress::parse("localhost:9092"), Ok(tcp("localhost", 9092)));
        assert_eq!(ListenAddress::parse("[::1]:0"), Ok(tcp("::1", 0)));
        assert_eq!(ListenAddress::parse("::1:9092"), Ok(tcp("::1", 9092)));
        assert_eq!(ListenAddress::parse(":9092"), Ok(tcp("", 9092)));
        assert_eq!(ListenAddress::parse("unix:/run/klamm"), Ok(ListenAddress::Unix("/run/klamm".into())));
        for bad in ["", "localhost", "localhost:", "localhost:70000", "a b:1", "unix:", "h:-1"] {
            assert!(ListenAddress::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(tcp("::1", 9092).to_string(), "[::1]:9092");
    }

    #[test]
    fn a_wildcard_listener_is_told_by_the_machines_name() {
        for host in ["", "0.0.0.0", "[::]"] {
            let (_, advertised) = resolve(&format!("PLAINTEXT://{host}:9092"), None, &[]).unwrap();
            assert_eq!(advertised[0].address, ListenAddress::Tcp { host: String::new(), port: 9092 });
        }
        assert!(resolve("PLAINTEXT://:9092", Some("PLAINTEXT://0.0.0.0:9092"), &[]).is_err());
    }

    #[test]
    fn names_ports_and_protocols_are_checked_together() {
        let (listeners, _) =
            resolve("plaintext://:9092,CONTROLLER://:9093", Some("PLAINTEXT://k:9092"), &["CONTROLLER"])
                .unwrap();
        assert_eq!(listeners[0].name, "PLAINTEXT");
        assert!(listeners[1].controller);
        assert!(resolve("PLAINTEXT://127.0.0.1:9092,IN://[::1]:9092", None, &[]).is_ok());
        for (listeners, advertised, controllers, word) in [
            ("PLAINTEXT://:1,PLAINTEXT://:2", None, &[][..], "used twice"),
            ("PLAINTEXT://:1,IN://:1", None, &[], "used twice"),
            ("NONE://:1", None, &[], "no security protocol"),
            ("SSL://:1", None, &[], "TLS"),
            ("PLAINTEXT://:1", Some("IN://h:1"), &[], "not among"),
            ("PLAINTEXT://:1", None, &["CONTROLLER"], "names no listener"),
            ("CONTROLLER://:1", None, &["CONTROLLER"], "for clients"),
            (":9092", None, &[], "NAME://HOST:PORT"),
        ] {
            let error = resolve(listeners, advertised, controllers).unwrap_err();
            assert!(error.contains(word), "{listeners}: {error}");
        }
    }

    #[test]
    fn flags_replace_client_listeners_and_keep_the_controllers() {
        let configured = BTreeMap::from([
            ("listeners".to_owned(), "PLAINTEXT://:9092,CONTROLLER://:9093".to_owned()),
            ("controller.listener.names".to_owned(), "CONTROLLER".to_owned()),
        ]);
        let listen = ["127.0.0.1:0".to_owned(), "unix:/run/k".to_owned(), "[::1]:0".to_owned()];
        let settings = from_flags(&listen, &["me:1".to_owned()], &configured).unwrap();
        let get = |key: &str| settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        assert_eq!(
            get("listeners"),
            Some("PLAINTEXT://127.0.0.1:0,UNIX://unix:/run/k,PLAINTEXT_2://[::1]:0,CONTROLLER://:9093")
        );
        assert_eq!(get("advertised.listeners"), Some("PLAINTEXT://me:1"));
        assert!(
            get("listener.security.protocol.map")
                .unwrap()
                .ends_with(",PLAINTEXT_2:PLAINTEXT,CONTROLLER:PLAINTEXT")
        );
    }
}
