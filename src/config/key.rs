//! What one row of the table of configuration keys says, and the check of a value against it.
//!
//! A value is text until its row has parsed it; nothing else in the program turns configuration text into
//! numbers. Messages keep Kafka's form, `Invalid value X for configuration K: why`.

use std::fmt;

use super::error::ConfigError;

/// Whose configuration a key is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// A broker, or all brokers of a cluster.
    Broker,
    /// A topic.
    Topic,
    /// A group.
    Group,
    /// A subscription to client metrics.
    ClientMetrics,
}

/// Kafka's types of values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A floating-point number.
    Double,
    /// Values separated by commas.
    List,
    /// The name of a Java class.
    Class,
    /// Text that is never shown.
    Password,
}

/// What a key is worth where nobody sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fallback {
    /// Not set.
    Null,
    /// Kafka insists on a value.
    Required,
    /// This text.
    Value(&'static str),
}

/// The values a key takes, beyond its type. Prints as Kafka's documentation does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Valid {
    /// Every value of the type.
    Any,
    /// Integers from here on.
    AtLeast(i64),
    /// Integers in this range, both ends included.
    Within(i64, i64),
    /// Numbers in this range, both ends included.
    Ratio(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of these words, in any case.
    OneOfIgnoringCase(&'static [&'static str]),
    /// gzip's levels, or -1 for its default.
    GzipLevel,
    /// A list that is not empty.
    NonEmptyList,
    /// Text that is not empty.
    NonEmpty,
    /// Text, possibly empty.
    NonNull,
    /// `partition:broker` pairs or `*`.
    ThrottledReplicas,
    /// Where a share group starts.
    OffsetReset,
}

/// Kafka's weight of a key in its documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Importance {
    /// First thing to look at.
    High,
    /// Worth knowing.
    Medium,
    /// Seldom touched.
    Low,
}

/// How a broker's key may change while the broker runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// Only at the start.
    ReadOnly,
    /// For each broker by itself.
    PerBroker,
    /// For each broker, or for all of the cluster.
    ClusterWide,
}

/// What setting the key does here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// It does what Kafka says it does.
    Acts,
    /// Accepted; it begins to matter with a second node.
    LoneNode,
    /// Accepted, and never does anything here, for this reason.
    NoEffect(&'static str),
    /// Accepted; it promises nothing by itself, and acts when this part is there.
    Waits(&'static str),
    /// It changes what is promised, and this part is not there: refused unless it is the default.
    RefusedUntil(&'static str),
}

/// One row of the table: everything that is known about a key.
#[derive(Clone, Copy, Debug)]
pub struct ConfigKey {
    /// Whose key it is.
    pub scope: Scope,
    /// Kafka's name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// Kafka's default.
    pub default: Fallback,
    /// The default here, where it differs from Kafka's.
    pub ours: Option<Fallback>,
    /// The values it takes.
    pub valid: Valid,
    /// How much it matters.
    pub importance: Importance,
    /// How it may change; a topic's or group's keys always may.
    pub update: Update,
    /// The broker's key that stands behind a topic's key.
    pub synonym: Option<&'static str>,
    /// Kafka does not document it.
    pub internal: bool,
    /// What it does here.
    pub effect: Effect,
    /// One sentence for the user.
    pub doc: &'static str,
}

/// A value that its row has accepted.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Of [`Kind::Boolean`].
    Boolean(bool),
    /// Of the three integer kinds.
    Integer(i64),
    /// Of [`Kind::Double`].
    Double(f64),
    /// Of [`Kind::String`], [`Kind::Class`] and [`Kind::Password`].
    Text(String),
    /// Of [`Kind::List`].
    List(Vec<String>),
}

impl ConfigKey {
    /// What the key is worth here where nobody sets it.
    #[must_use]
    pub fn fallback(&self) -> Fallback {
        self.ours.unwrap_or(self.default)
    }

    /// Whether a running broker takes a new value. Kafka's brokers can also open and close listeners.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        self.update != Update::ReadOnly && !AT_START_ALONE.contains(&self.name)
    }

    /// Whether its values are never shown.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// The sentence for the user, and what holds here beyond it.
    #[must_use]
    pub fn documentation(&self) -> String {
        match self.effect {
            Effect::Acts => self.doc.to_owned(),
            Effect::LoneNode => format!("{} Matters with more than one node.", self.doc),
            Effect::NoEffect(why) => format!("{} No effect in klamm: {why}.", self.doc),
            Effect::Waits(part) => format!("{} No effect until klamm has {part}.", self.doc),
            Effect::RefusedUntil(part) => {
                format!("{} Only the default is accepted until klamm has {part}.", self.doc)
            }
        }
    }

    /// Reads `text` as a value of this key: its type, then its range.
    ///
    /// # Errors
    /// [`ConfigError::InvalidValue`]; a password is not repeated in it.
    pub fn parse(&self, text: &str) -> Result<Value, ConfigError> {
        let invalid = |why: String| ConfigError::InvalidValue {
            name: self.name.to_owned(),
            value: if self.is_sensitive() { "[hidden]".to_owned() } else { text.to_owned() },
            why,
        };
        let value = self.parse_kind(text.trim()).map_err(invalid)?;
        self.check(&value).map_err(invalid)?;
        Ok(value)
    }

    fn parse_kind(&self, text: &str) -> Result<Value, String> {
        let integer = |min: i64, max: i64, name: &str| match text.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
            _ => Err(format!("Not a number of type {name}")),
        };
        match self.kind {
            Kind::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            Kind::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
            Kind::Boolean => Err("Expected value to be either true or false".to_owned()),
            Kind::Short => integer(i64::from(i16::MIN), i64::from(i16::MAX), "SHORT"),
            Kind::Int => integer(i64::from(i32::MIN), i64::from(i32::MAX), "INT"),
            Kind::Long => integer(i64::MIN, i64::MAX, "LONG"),
            Kind::Double => text
                .parse::<f64>()
                .ok()
                .filter(|number| !number.is_nan())
                .map(Value::Double)
                .ok_or_else(|| "Not a number of type DOUBLE".to_owned()),
            Kind::List => Ok(Value::List(split_list(text))),
            Kind::String | Kind::Class | Kind::Password => Ok(Value::Text(text.to_owned())),
        }
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        match (self.valid, value) {
            (Valid::AtLeast(min), Value::Integer(number)) if *number < min => {
                Err(format!("Value must be at least {min}"))
            }
            (Valid::Within(min, _), Value::Integer(number)) if *number < min => {
                Err(format!("Value must be at least {min}"))
            }
            (Valid::Within(_, max), Value::Integer(number)) if *number > max => {
                Err(format!("Value must be no more than {max}"))
            }
            (Valid::GzipLevel, Value::Integer(level)) if *level != -1 && !(1..=9).contains(level) => {
                Err("Value must be between 1 and 9 or equal to -1".to_owned())
            }
            (Valid::Ratio(min, max), Value::Double(number)) if !(min..=max).contains(number) => {
                Err(format!("Value must be between {min} and {max}"))
            }
            (Valid::OneOf(words), Value::Text(text)) if !words.contains(&text.as_str()) => {
                Err(format!("String must be one of: {}", words.join(", ")))
            }
            (Valid::OneOfIgnoringCase(words), Value::Text(text))
                if !words.iter().any(|word| word.eq_ignore_ascii_case(text)) =>
            {
                Err(format!("String must be one of (case insensitive): {}", words.join(", ")))
            }
            (Valid::NonEmpty, Value::Text(text)) if text.is_empty() => {
                Err("String must be non-empty".to_owned())
            }
            (Valid::OffsetReset, Value::Text(text)) => check_offset_reset(text),
            (Valid::OneOf(words), Value::List(items)) => check_words(items, words),
            (Valid::NonEmptyList, Value::List(items)) if items.iter().any(String::is_empty) => {
                Err("a list may hold no empty entry".to_owned())
            }
            (Valid::ThrottledReplicas, Value::List(items)) => check_throttled(items),
            _ => Ok(()),
        }
    }

    /// The row's own default as a value; `None` where there is none.
    #[must_use]
    pub fn default_value(&self) -> Option<Value> {
        match self.fallback() {
            Fallback::Value(text) => self.parse(text).ok(),
            Fallback::Null | Fallback::Required => None,
        }
    }

    /// Whether `text` says the same as the default, here or in Kafka.
    #[must_use]
    pub fn is_default(&self, text: &str) -> bool {
        let Ok(value) = self.parse(text) else { return false };
        let same = |fallback: Fallback| match fallback {
            Fallback::Value(default) => self.parse(default).is_ok_and(|default| default == value),
            Fallback::Null | Fallback::Required => value == Value::Text(String::new()),
        };
        same(self.fallback()) || same(self.default)
    }

    /// Refuses a value that promises what is not built.
    ///
    /// # Errors
    /// [`ConfigError::InvalidValue`] and [`ConfigError::NotBuilt`].
    pub fn check_built(&self, text: &str) -> Result<(), ConfigError> {
        self.parse(text)?;
        if let Effect::RefusedUntil(part) = self.effect
            && !self.is_default(text)
        {
            return Err(ConfigError::NotBuilt {
                name: self.name.to_owned(),
                value: if self.is_sensitive() { "[hidden]".to_owned() } else { text.to_owned() },
                part: part.to_owned(),
            });
        }
        Ok(())
    }
}

/// Keys that are read at the start alone, although Kafka's brokers take them while they run.
const AT_START_ALONE: &[&str] = &["listeners", "listener.security.protocol.map"];

fn split_list(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(|item| item.trim().to_owned()).collect() }
}

fn check_words(items: &[String], words: &[&str]) -> Result<(), String> {
    for (index, item) in items.iter().enumerate() {
        if !words.contains(&item.as_str()) {
            return Err(format!("String must be one of: {}", words.join(", ")));
        }
        if items[..index].contains(item) {
            return Err(format!("{item} stands in the list twice"));
        }
    }
    Ok(())
}

fn check_throttled(items: &[String]) -> Result<(), String> {
    let is_pair = |item: &str| {
        item.split_once(':').is_some_and(|(partition, broker)| {
            partition.trim().parse::<u32>().is_ok() && broker.trim().parse::<u32>().is_ok()
        })
    };
    if matches!(items, [only] if only == "*") || items.iter().all(|item| is_pair(item)) {
        return Ok(());
    }
    Err("must be the literal '*' or a list of replicas in the form partition:broker,partition:broker"
        .to_owned())
}

fn check_offset_reset(text: &str) -> Result<(), String> {
    let by_duration = text.strip_prefix("by_duration:").is_some_and(|span| span.starts_with('P'));
    if by_duration || matches!(text, "latest" | "earliest") {
        return Ok(());
    }
    Err("must be one of latest, earliest, by_duration:PnDTnHnMn.nS".to_owned())
}

impl Kind {
    /// The number DescribeConfigs gives the type.
    #[must_use]
    pub fn wire_type(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Short => 4,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
            Kind::Class => 8,
            Kind::Password => 9,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Int => "int",
            Kind::Short => "short",
            Kind::Long => "long",
            Kind::Double => "double",
            Kind::List => "list",
            Kind::Class => "class",
            Kind::Password => "password",
        })
    }
}

impl fmt::Display for Valid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Valid::Any => Ok(()),
            Valid::AtLeast(min) => write!(f, "[{min},...]"),
            Valid::Within(min, max) => write!(f, "[{min},...,{max}]"),
            Valid::Ratio(min, max) => write!(f, "[{min},...,{max}]"),
            Valid::OneOf(words) => write!(f, "[{}]", words.join(", ")),
            Valid::OneOfIgnoringCase(words) => write!(f, "(case insensitive) [{}]", words.join(", ")),
            Valid::GzipLevel => f.write_str("[1,...,9] or -1"),
            Valid::NonEmptyList => f.write_str("non-empty list"),
            Valid::NonEmpty => f.write_str("non-empty string"),
            Valid::NonNull => f.write_str("non-null string"),
            Valid::ThrottledReplicas => f.write_str("[partitionId]:[brokerId],[partitionId]:[brokerId],..."),
            Valid::OffsetReset => f.write_str("[latest, earliest, by_duration:PnDTnHnMn.nS]"),
        }
    }
}

impl fmt::Display for Value {
    /// As Kafka prints values in DescribeConfigs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(value) => value.fmt(f),
            Value::Integer(value) => value.fmt(f),
            Value::Double(value) => f.write_str(&java_double(*value)),
            Value::Text(value) => f.write_str(value),
            Value::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// Java writes doubles from 10^7 on, and below 10^-3, with an exponent, and always with a fraction.
fn java_double(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) {
        let text = format!("{value:E}");
        return match text.split_once('E') {
            Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
            _ => text,
        };
    }
    if value.fract() == 0.0 { format!("{value:.1}") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    fn parse(scope: Scope, name: &str, text: &str) -> Result<Value, String> {
        table::find(scope, name).unwrap().parse(text).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_checked_by_type_and_range() {
        assert_eq!(parse(Scope::Topic, "retention.ms", " -1 "), Ok(Value::Integer(-1)));
        assert_eq!(
            parse(Scope::Topic, "retention.ms", "-2"),
            Err("Invalid value -2 for configuration retention.ms: Value must be at least -1".to_owned())
        );
        assert_eq!(
            parse(Scope::Topic, "segment.bytes", "x"),
            Err("Invalid value x for configuration segment.bytes: Not a number of type INT".to_owned())
        );
        assert!(parse(Scope::Topic, "segment.bytes", "3000000000").is_err());
        assert!(parse(Scope::Topic, "compression.gzip.level", "0").is_err());
        assert!(parse(Scope::Topic, "preallocate", "TRUE").is_ok());
        assert!(parse(Scope::Topic, "cleanup.policy", "delete, compact").is_ok());
        assert!(parse(Scope::Topic, "cleanup.policy", "delete,delete").is_err());
        assert!(parse(Scope::Topic, "min.cleanable.dirty.ratio", "1.5").is_err());
        assert!(parse(Scope::Topic, "leader.replication.throttled.replicas", "0:1,1:2").is_ok());
        assert!(parse(Scope::Topic, "leader.replication.throttled.replicas", "0-1").is_err());
    }

    #[test]
    fn cve_2019_12399_passwords_are_never_repeated() {
        let key = table::find(Scope::Broker, "ssl.key.password").unwrap();
        let error = key.check_built("secret").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn doubles_print_as_java_prints_them() {
        assert_eq!(java_double(f64::MAX), "1.7976931348623157E308");
        assert_eq!(java_double(1e7), "1.0E7");
        assert_eq!(java_double(0.5), "0.5");
        assert_eq!(java_double(1.0), "1.0");
    }
}
