//! Where brokers are: `HOST:PORT`, `[IPv6]:PORT`, `unix:PATH`, and what brokers say about themselves.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// The port of `HOST` without one.
const DEFAULT_PORT: u16 = 9092;

/// One broker's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A name or an IP address, and a port.
    Tcp {
        /// Name, IPv4 or IPv6 address (without brackets).
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{given:?} is not a broker address: {why} (expected HOST:PORT, [IPV6]:PORT or unix:PATH)")]
pub struct InvalidAddress {
    /// The text as it was given.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Address {
    /// The address a broker gives in its metadata. A klamm listener on a Unix socket says host=PATH port=0.
    #[must_use]
    pub fn from_metadata(host: &str, port: i32) -> Option<Self> {
        if port == 0 && host.starts_with('/') {
            return Some(Self::Unix(PathBuf::from(host)));
        }
        let port = u16::try_from(port).ok().filter(|&port| port != 0)?;
        (!host.is_empty()).then(|| Self::Tcp { host: host.to_owned(), port })
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let error = |why| InvalidAddress { given: text.to_owned(), why };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(error("the path is empty"))
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        // Java's clients take PROTOCOL://HOST:PORT; so do we where the protocol is the one we speak.
        let rest = match text.split_once("://") {
            None => text,
            Some((protocol, rest)) if protocol.eq_ignore_ascii_case("plaintext") => rest,
            Some(_) => return Err(error("only PLAINTEXT:// is spoken")),
        };
        let (host, port) = split_port(rest).ok_or_else(|| error("the brackets do not match"))?;
        let port = match port {
            None => DEFAULT_PORT,
            Some(digits) => digits.parse().map_err(|_| error("the port is not a number up to 65535"))?,
        };
        if host.is_empty() {
            return Err(error("the host is empty"));
        }
        if port == 0 {
            return Err(error("port 0 cannot be connected to"));
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

/// Splits off the port; an address with several colons and no brackets is a bare IPv6 address.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if after.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn addresses_parse_in_every_form() {
        let cases = [
            ("localhost:9092", tcp("localhost", 9092)),
            ("broker", tcp("broker", 9092)),
            ("10.0.0.1:1", tcp("10.0.0.1", 1)),
            ("[::1]:9093", tcp("::1", 9093)),
            ("[::1]", tcp("::1", 9092)),
            ("::1", tcp("::1", 9092)),
            ("PLAINTEXT://h:7", tcp("h", 7)),
            ("unix:/run/k.sock", Address::Unix("/run/k.sock".into())),
            ("unix:relative.sock", Address::Unix("relative.sock".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in ["", ":9092", "h:", "h:x", "h:70000", "h:0", "[::1", "[::1]x", "unix:", "SSL://h:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_print_as_they_parse() {
        for text in ["localhost:9092", "[::1]:9093", "unix:/run/k.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_unix_listener_is_mapped_back_from_metadata() {
        assert_eq!(Address::from_metadata("/run/k.sock", 0), Some(Address::Unix("/run/k.sock".into())));
        assert_eq!(Address::from_metadata("h", 9092), Some(tcp("h", 9092)));
        assert_eq!(Address::from_metadata("h", 0), None);
        assert_eq!(Address::from_metadata("", 9092), None);
        assert_eq!(Address::from_metadata("h", -1), None);
    }
}
