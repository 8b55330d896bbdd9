//! What has configurations: `topic:NAME`, `broker:ID`, `broker`, `group:NAME`, `client:NAME`, `user:NAME` …

use std::fmt;
use std::str::FromStr;

use crate::types::{BrokerId, TopicName};

/// The kinds, in the order in which a mistake lists them.
const KINDS: &[(&str, Kind)] = &[
    ("topic", Kind::Topic),
    ("broker", Kind::Broker),
    ("group", Kind::Group),
    ("client", Kind::Client),
    ("user", Kind::User),
    ("client-metrics", Kind::ClientMetrics),
    ("broker-logger", Kind::BrokerLogger),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Topic,
    Broker,
    Group,
    Client,
    User,
    ClientMetrics,
    BrokerLogger,
}

/// Which API keeps an entity's configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// The configuration APIs, under this resource type.
    Configs(i8),
    /// The quota APIs, under this entity type.
    Quotas(&'static str),
}

/// One entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    kind: Kind,
    /// `None`: the default of all of its kind.
    name: Option<String>,
}

impl Entity {
    /// Where its configurations are kept.
    #[must_use]
    pub fn home(&self) -> Home {
        match self.kind {
            Kind::Topic => Home::Configs(2),
            Kind::Broker => Home::Configs(4),
            Kind::BrokerLogger => Home::Configs(8),
            Kind::ClientMetrics => Home::Configs(16),
            Kind::Group => Home::Configs(32),
            Kind::Client => Home::Quotas("client-id"),
            Kind::User => Home::Quotas("user"),
        }
    }

    /// The name behind the colon.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The broker that alone can answer for it.
    #[must_use]
    pub fn broker(&self) -> Option<BrokerId> {
        match self.kind {
            Kind::Broker | Kind::BrokerLogger => self.name.as_ref()?.parse().ok().map(BrokerId),
            _ => None,
        }
    }

    /// The topic, if it is one.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        if self.kind == Kind::Topic { self.name() } else { None }
    }
}

impl FromStr for Entity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kind, Some(name)),
            None => (text, None),
        };
        let Some(&(_, kind)) = KINDS.iter().find(|(known, _)| *known == kind) else {
            let known: Vec<String> = KINDS.iter().map(|(known, _)| format!("{known}:NAME")).collect();
            return Err(format!("one of {} is expected", known.join(", ")));
        };
        match (kind, name) {
            (_, Some("")) => Err("a name is missing behind ':'".to_owned()),
            (Kind::Topic, Some(name)) => TopicName::new(name).map(|_| ()).map_err(|error| error.to_string()),
            (Kind::Broker | Kind::BrokerLogger, Some(id)) => match id.parse::<i32>() {
                Ok(id) if id >= 0 => Ok(()),
                _ => Err(format!("{id:?} is no broker id: a number is expected")),
            },
            // Brokers, clients and users have a default for all of them.
            (Kind::Broker | Kind::Client | Kind::User, None) | (_, Some(_)) => Ok(()),
            (_, None) => Err(format!("which one? {text}:NAME is expected")),
        }?;
        Ok(Self { kind, name: name.map(str::to_owned) })
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name);
        match &self.name {
            Some(name) => write!(f, "{kind}:{name}"),
            None => f.write_str(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_parse_and_print_alike() {
        for text in ["topic:a", "broker:1", "broker", "group:g:h", "client:c", "client", "user", "user:u"] {
            assert_eq!(text.parse::<Entity>().unwrap().to_string(), text);
        }
        for bad in
            ["", "topic", "topic:", "topic:a b", "broker:x", "broker:-1", "group", "shelf:1", "topics:a"]
        {
            assert!(bad.parse::<Entity>().is_err(), "{bad:?}");
        }
        assert_eq!("broker:7".parse::<Entity>().unwrap().broker(), Some(BrokerId(7)));
        assert_eq!("user:u".parse::<Entity>().unwrap().home(), Home::Quotas("user"));
    }
}
