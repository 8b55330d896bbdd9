//! The layers a value may come from: default < file < flag < the cluster's dynamic default < this broker's
//! dynamic value. Text in, typed values out; the row of the key checks each.

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::key::{ConfigKey, Fallback, Scope, Value};
use super::table;

/// Where a value comes from. Kafka's names and numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigSource {
    /// Set for the topic.
    DynamicTopicConfig,
    /// Set for this broker while it runs.
    DynamicBrokerConfig,
    /// Set for all brokers while they run.
    DynamicDefaultBrokerConfig,
    /// From the file or a flag.
    StaticBrokerConfig,
    /// Nobody set it.
    DefaultConfig,
    /// Set for a subscription to client metrics.
    DynamicClientMetricsConfig,
    /// Set for the group.
    DynamicGroupConfig,
}

impl ConfigSource {
    /// The number DescribeConfigs carries.
    #[must_use]
    pub fn id(self) -> i8 {
        match self {
            Self::DynamicTopicConfig => 1,
            Self::DynamicBrokerConfig => 2,
            Self::DynamicDefaultBrokerConfig => 3,
            Self::StaticBrokerConfig => 4,
            Self::DefaultConfig => 5,
            Self::DynamicClientMetricsConfig => 7,
            Self::DynamicGroupConfig => 8,
        }
    }

    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DynamicTopicConfig => "DYNAMIC_TOPIC_CONFIG",
            Self::DynamicBrokerConfig => "DYNAMIC_BROKER_CONFIG",
            Self::DynamicDefaultBrokerConfig => "DYNAMIC_DEFAULT_BROKER_CONFIG",
            Self::StaticBrokerConfig => "STATIC_BROKER_CONFIG",
            Self::DefaultConfig => "DEFAULT_CONFIG",
            Self::DynamicClientMetricsConfig => "DYNAMIC_CLIENT_METRICS_CONFIG",
            Self::DynamicGroupConfig => "DYNAMIC_GROUP_CONFIG",
        }
    }
}

/// A broker's settings as text, by layer. Every key in them is a row of the table.
#[derive(Clone, Default, Debug, PartialEq)]
pub(super) struct BrokerLayers {
    /// File and flags, the flags on top.
    pub fixed: BTreeMap<String, String>,
    /// There was a file.
    pub has_file: bool,
    /// Dynamic, for all brokers.
    pub cluster: BTreeMap<String, String>,
    /// Dynamic, for this broker.
    pub broker: BTreeMap<String, String>,
}

impl BrokerLayers {
    /// The value in force and where it comes from; `None` where nobody sets the key.
    pub(super) fn set(&self, name: &str) -> Option<(&str, ConfigSource)> {
        let layers = [
            (&self.broker, ConfigSource::DynamicBrokerConfig),
            (&self.cluster, ConfigSource::DynamicDefaultBrokerConfig),
            (&self.fixed, ConfigSource::StaticBrokerConfig),
        ];
        let is_dynamic = key(name).is_ok_and(ConfigKey::is_dynamic);
        layers
            .into_iter()
            .filter(|(_, source)| is_dynamic || *source == ConfigSource::StaticBrokerConfig)
            .find_map(|(layer, source)| Some((layer.get(name)?.as_str(), source)))
    }

    /// The value in force, or the default; `None` where there is neither.
    pub(super) fn value(&self, name: &str) -> Result<Option<Value>, ConfigError> {
        let key = key(name)?;
        match (self.set(name), key.fallback()) {
            (Some((text, _)), _) => key.parse(text).map(Some),
            (None, Fallback::Value(text)) => key.parse(text).map(Some),
            (None, Fallback::Null | Fallback::Required) => Ok(None),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.value(name)?.map(|value| value.to_string()))
    }

    pub(super) fn list(&self, name: &str) -> Result<Vec<String>, ConfigError> {
        match self.value(name)? {
            Some(Value::List(items)) => Ok(items),
            Some(other) => Ok(vec![other.to_string()]),
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, ConfigError> {
        Ok(self.value(name)? == Some(Value::Boolean(true)))
    }

    /// An integer that has a default.
    pub(super) fn integer(&self, name: &str) -> Result<i64, ConfigError> {
        self.optional_integer(name).map(Option::unwrap_or_default)
    }

    pub(super) fn optional_integer(&self, name: &str) -> Result<Option<i64>, ConfigError> {
        match self.value(name)? {
            Some(Value::Integer(number)) => Ok(Some(number)),
            _ => Ok(None),
        }
    }

    /// An integer as an unsigned size; below zero counts as zero.
    pub(super) fn size<T: TryFrom<i64> + Default>(&self, name: &str) -> Result<T, ConfigError> {
        Ok(T::try_from(self.integer(name)?.max(0)).unwrap_or_default())
    }
}

/// The row of a broker's key.
pub(super) fn key(name: &str) -> Result<&'static ConfigKey, ConfigError> {
    table::find(Scope::Broker, name)
        .ok_or_else(|| ConfigError::UnknownKey { name: name.to_owned(), nearest: None })
}
