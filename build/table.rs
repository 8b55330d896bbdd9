//! Reads a table of messages.
//!
//! One message a block; blank lines between; `#` begins a comment line.
//! ```text
//! KIND NAME [key=N] versions=A-B flexible=none|A+
//!   FIELD TYPE VERSIONS [nullable=VERSIONS] [tag=N@VERSIONS] [default=V] [key] [ignorable] [entity=KIND] [flexible=none]
//!     (the fields of a struct stand under the field that names it first, or under `struct NAME VERSIONS`)
//! ```
//! VERSIONS: `3`, `3-7`, `3+`. TYPE: `bool int8 int16 uint16 int32 uint32 int64 float64 uuid string bytes records`,
//! a struct's name, or `[]` before one of these.

use std::collections::BTreeMap;

/// Why a table cannot be read.
pub struct TableError {
    pub line: usize,
    pub why: String,
}

/// An inclusive range of versions; `i16::MAX` has no end.
#[derive(Clone, Copy, PartialEq)]
pub struct Versions {
    pub lowest: i16,
    pub highest: i16,
}

impl Versions {
    pub const NONE: Self = Self { lowest: 1, highest: 0 };

    pub fn is_empty(self) -> bool {
        self.lowest > self.highest
    }

    pub fn and(self, other: Self) -> Self {
        Self { lowest: self.lowest.max(other.lowest), highest: self.highest.min(other.highest) }
    }

    pub fn covers(self, other: Self) -> bool {
        self.lowest <= other.lowest && other.highest <= self.highest
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::NONE);
        }
        if let Some(lowest) = text.strip_suffix('+') {
            return Some(Self { lowest: lowest.parse().ok()?, highest: i16::MAX });
        }
        let (lowest, highest) = text.split_once('-').unwrap_or((text, text));
        Some(Self { lowest: lowest.parse().ok()?, highest: highest.parse().ok()? })
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Scalar {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
}

impl Scalar {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "uint16" => Self::Uint16,
            "int32" => Self::Int32,
            "uint32" => Self::Uint32,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "uuid" => Self::Uuid,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            _ => return None,
        })
    }
}

#[derive(Clone, PartialEq)]
pub enum Holds {
    Scalar(Scalar),
    Struct(String),
    ScalarArray(Scalar),
    StructArray(String),
}

impl Holds {
    fn parse(text: &str) -> Option<Self> {
        let (array, element) = match text.strip_prefix("[]") {
            Some(element) => (true, element),
            None => (false, text),
        };
        Some(match (Scalar::parse(element), array) {
            (Some(scalar), false) => Self::Scalar(scalar),
            (Some(scalar), true) => Self::ScalarArray(scalar),
            (None, array) => {
                if !element.starts_with(|c: char| c.is_ascii_uppercase()) {
                    return None;
                }
                if array { Self::StructArray(element.to_owned()) } else { Self::Struct(element.to_owned()) }
            }
        })
    }

    pub fn struct_name(&self) -> Option<&str> {
        match self {
            Self::Struct(name) | Self::StructArray(name) => Some(name),
            Self::Scalar(_) | Self::ScalarArray(_) => None,
        }
    }
}

#[derive(Clone, PartialEq)]
pub struct Field {
    pub name: String,
    pub holds: Holds,
    /// Within the message's versions; fields with none of them are dropped.
    pub versions: Versions,
    /// Within `versions`.
    pub nullable: Versions,
    pub tag: Option<u32>,
    pub default: Option<String>,
    pub ignorable: bool,
    /// `flexible=none`: no compact length even in flexible versions.
    pub plain: bool,
}

#[derive(Clone, PartialEq, Default)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

pub struct Message {
    pub kind: String,
    pub family: String,
    pub name: String,
    pub key: i16,
    pub versions: Versions,
    /// `i16::MAX` if never.
    pub flexible_from: i16,
    pub fields: Vec<Field>,
    /// In the order of their names.
    pub structs: BTreeMap<String, Struct>,
}

pub const KINDS: &[&str] = &[
    "request",
    "response",
    "header",
    "metadata",
    "coordinator-key",
    "coordinator-value",
    "remote-log",
    "data",
];

/// The messages of one table.
pub fn read(family: &str, text: &str) -> Result<Vec<Message>, TableError> {
    let mut messages: Vec<Message> = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let fail = |why: String| TableError { line: number, why };
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with(' ') {
            let block = open.as_mut().ok_or_else(|| fail("a field before any message".to_owned()))?;
            block.line(line).map_err(fail)?;
        } else {
            if let Some(block) = open.take() {
                messages.push(block.close().map_err(fail)?);
            }
            open = Some(Block::open(family, line).map_err(fail)?);
        }
    }
    if let Some(block) = open.take() {
        let line = text.lines().count();
        messages.push(block.close().map_err(|why| TableError { line, why })?);
    }
    Ok(messages)
}

/// A message being read: what stands at each depth of indentation takes the fields that follow deeper.
struct Block {
    message: Message,
    /// Structs that are open, by depth; depth 0 is the message.
    path: Vec<String>,
}

impl Block {
    fn open(family: &str, line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default().to_owned();
        if !KINDS.contains(&kind.as_str()) {
            return Err(format!("{kind} is none of {KINDS:?}"));
        }
        let name = words.next().ok_or("a message without a name")?;
        let mut message = Message {
            kind,
            family: family.to_owned(),
            name: name.strip_suffix("Data").unwrap_or(name).to_owned(),
            key: -1,
            versions: Versions::NONE,
            flexible_from: i16::MAX,
            fields: Vec::new(),
            structs: BTreeMap::new(),
        };
        for word in words {
            let (attribute, value) = word.split_once('=').unwrap_or((word, ""));
            let versions = || Versions::parse(value).ok_or_else(|| format!("{value} are no versions"));
            match attribute {
                "key" => message.key = value.parse().map_err(|_| format!("{value} is no key"))?,
                "versions" => message.versions = versions()?,
                "flexible" => {
                    message.flexible_from = if value == "none" { i16::MAX } else { versions()?.lowest }
                }
                _ => return Err(format!("unknown attribute {word}")),
            }
        }
        if message.versions.is_empty() {
            return Err(format!("{name} has no versions"));
        }
        Ok(Self { message, path: vec![String::new()] })
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let indent = line.len() - line.trim_start().len();
        let depth = indent / 2;
        if !indent.is_multiple_of(2) || depth > self.path.len() {
            return Err(format!("indented by {indent}: two spaces a level"));
        }
        self.path.truncate(depth);
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"struct") {
            let name = words.get(1).ok_or("a struct without a name")?;
            return self.open_struct(name);
        }
        let field = parse_field(&words, self.message.versions)?;
        // What stands deeper than a field are the fields of its struct.
        let inner = field.holds.struct_name().unwrap_or_default().to_owned();
        let owner = self.path.last().cloned().unwrap_or_default();
        self.path.push(inner);
        if field.versions.is_empty() {
            return Ok(());
        }
        if owner.is_empty() {
            if depth != 1 {
                return Err(format!("{} stands under a field that has no struct", field.name));
            }
            self.message.fields.push(field);
        } else {
            let fields = &mut self.message.structs.entry(owner.clone()).or_default();
            fields.name.clone_from(&owner);
            fields.fields.push(field);
        }
        Ok(())
    }

    fn open_struct(&mut self, name: &str) -> Result<(), String> {
        if self.message.structs.contains_key(name) {
            return Err(format!("struct {name} is there twice"));
        }
        self.path.push(name.to_owned());
        Ok(())
    }

    fn close(self) -> Result<Message, String> {
        let message = self.message;
        let all = message.fields.iter().chain(message.structs.values().flat_map(|s| &s.fields));
        for field in all {
            if let Some(name) = field.holds.struct_name().filter(|name| !message.structs.contains_key(*name))
            {
                return Err(format!("{}: {} is of the unknown struct {name}", message.name, field.name));
            }
        }
        for owner in std::iter::once(&message.fields).chain(message.structs.values().map(|s| &s.fields)) {
            let mut names: Vec<&str> = owner.iter().map(|field| field.name.as_str()).collect();
            names.sort_unstable();
            if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(format!("{}: two fields are named {}", message.name, pair[0]));
            }
        }
        Ok(message)
    }
}

fn parse_field(words: &[&str], message: Versions) -> Result<Field, String> {
    let [name, holds, versions, attributes @ ..] = words else {
        return Err("a field is NAME TYPE VERSIONS".to_owned());
    };
    let holds = Holds::parse(holds).ok_or_else(|| format!("unknown type {holds}"))?;
    let parse = |text: &str| Versions::parse(text).ok_or_else(|| format!("{text} are no versions"));
    let versions = parse(versions)?.and(message);
    let mut field = Field {
        name: (*name).to_owned(),
        holds,
        versions,
        nullable: Versions::NONE,
        tag: None,
        default: None,
        ignorable: false,
        plain: false,
    };
    for word in attributes {
        let (attribute, value) = word.split_once('=').unwrap_or((word, ""));
        match attribute {
            "nullable" => field.nullable = parse(value)?.and(versions),
            "tag" => {
                let (tag, tagged) = value.split_once('@').ok_or_else(|| format!("{word} is no tag"))?;
                if !parse(tagged)?.covers(versions) {
                    return Err(format!("{name} must be tagged in all of its versions"));
                }
                field.tag = Some(tag.parse().map_err(|_| format!("{word} is no tag"))?);
            }
            "default" => field.default = Some(value.to_owned()),
            "ignorable" => field.ignorable = true,
            "flexible" if value == "none" => field.plain = true,
            // Facts for readers: neither changes what stands on the wire.
            "key" | "entity" => {}
            _ => return Err(format!("unknown attribute {word}")),
        }
    }
    Ok(field)
}
