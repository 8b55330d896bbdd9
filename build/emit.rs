//! Writes the Rust of the messages: per message a module with its structs, their defaults, `read`, `write` and
//! the table of fields.
//!
//! The generated code is straight lines of calls into `protocol::codec`: no generics, no early returns, version
//! checks against constants, so that two hundred messages compile in seconds.

use std::fmt::Write as _;

use crate::names::{camel, snake};
use crate::table::{Field, Holds, Message, Scalar, Versions};

macro_rules! line {
    ($out:expr, $($text:tt)*) => {{
        // Writing to a String cannot fail.
        let _ = writeln!($out, $($text)*);
    }};
}

/// The whole file.
pub fn messages(messages: &[Message]) -> String {
    let mut out = String::new();
    for message in messages {
        Emitter { message }.module(&mut out);
    }
    line!(out, "/// Every message, in the order of the tables.");
    line!(out, "pub static ALL: &[Entry] = &[");
    for message in messages {
        line!(out, "Entry::of::<{}::{}>(),", snake(&message.name), message.name);
    }
    line!(out, "];");
    out
}

struct Emitter<'a> {
    message: &'a Message,
}

impl Emitter<'_> {
    fn module(&self, out: &mut String) {
        let message = self.message;
        line!(out, "/// [`{0}`]({1}::{0}).", message.name, snake(&message.name));
        line!(out, "pub mod {} {{", snake(&message.name));
        line!(out, "use super::prelude::*;");
        let doc = self.doc();
        self.structure(out, &message.name, &message.fields, &doc);
        for inner in message.structs.values() {
            let doc = format!("Part of [`{}`].", message.name);
            self.structure(out, &inner.name, &inner.fields, &doc);
        }
        self.schema(out);
        self.message_impl(out);
        line!(out, "}}");
    }

    fn doc(&self) -> String {
        let message = self.message;
        let key = match (message.kind.as_str(), message.key) {
            (_, -1) => String::new(),
            ("request" | "response", key) => format!(" of API key {key}"),
            (_, key) => format!(" of type {key}"),
        };
        let flexible = if message.flexible_from == i16::MAX {
            "never flexible".to_owned()
        } else {
            format!("flexible from {}", message.flexible_from)
        };
        let Versions { lowest, highest } = message.versions;
        format!("A {} message{key}, versions {lowest} to {highest}, {flexible}.", message.kind)
    }

    fn is_flexible_ever(&self) -> bool {
        self.message.flexible_from <= self.message.versions.highest
    }

    /// Rust for "this version is flexible".
    fn flexible(&self, field: &Field) -> &'static str {
        if field.plain || !self.is_flexible_ever() {
            "false"
        } else if self.message.flexible_from <= self.message.versions.lowest {
            "true"
        } else {
            "f"
        }
    }

    fn flexible_struct(&self) -> &'static str {
        if self.message.flexible_from <= self.message.versions.lowest { "true" } else { "f" }
    }

    /// Whether some versions are flexible and some are not.
    fn needs_flexible_variable(&self) -> bool {
        self.is_flexible_ever() && self.message.flexible_from > self.message.versions.lowest
    }

    /// Rust for "the version is one of these", seen from `outer`; `None` if it always is.
    fn condition(&self, versions: Versions, outer: Versions) -> Option<String> {
        let Versions { lowest, highest } = versions;
        match (lowest <= outer.lowest, highest >= outer.highest) {
            (true, true) => None,
            (true, false) => Some(format!("v <= {highest}")),
            (false, true) => Some(format!("v >= {lowest}")),
            (false, false) if lowest == highest => Some(format!("v == {lowest}")),
            (false, false) => Some(format!("v >= {lowest} && v <= {highest}")),
        }
    }

    /// Rust for "this field may be null in this version".
    fn may_be_null(&self, field: &Field) -> String {
        if field.nullable.is_empty() {
            return "false".to_owned();
        }
        self.condition(field.nullable, field.versions).unwrap_or_else(|| "true".to_owned())
    }

    fn structure(&self, out: &mut String, name: &str, fields: &[Field], doc: &str) {
        let simple_default = fields.iter().all(has_rust_default);
        line!(out, "/// {doc}");
        line!(out, "#[derive(Clone, Debug, PartialEq{})]", if simple_default { ", Default" } else { "" });
        line!(out, "pub struct {name} {{");
        for field in fields {
            line!(out, "pub {}: {},", snake(&field.name), rust_type(field));
        }
        if self.is_flexible_ever() {
            line!(out, "pub unknown_tags: UnknownTags,");
        }
        line!(out, "}}");
        if !simple_default {
            line!(out, "impl Default for {name} {{ fn default() -> Self {{ Self {{");
            for field in fields {
                line!(out, "{}: {},", snake(&field.name), default(field));
            }
            if self.is_flexible_ever() {
                line!(out, "unknown_tags: UnknownTags::default(),");
            }
            line!(out, "}} }} }}");
        }
        line!(out, "impl {name} {{");
        self.read(out, fields);
        self.write(out, fields);
        line!(out, "}}");
    }

    fn read(&self, out: &mut String, fields: &[Field]) {
        line!(out, "pub(crate) fn read(d: &mut Decoder, v: i16) -> Self {{");
        if self.needs_flexible_variable() {
            line!(out, "let f = v >= {};", self.message.flexible_from);
        }
        let has_tags = fields.iter().any(|field| field.tag.is_some());
        line!(out, "{} Self {{", if has_tags { "let mut m =" } else { "" });
        for field in fields {
            let value = match (field.tag, self.condition(field.versions, self.message.versions)) {
                (Some(_), _) => default(field),
                (None, None) => self.read_value(field),
                (None, Some(condition)) => {
                    format!("if {condition} {{ {} }} else {{ {} }}", self.read_value(field), default(field))
                }
            };
            line!(out, "{}: {value},", snake(&field.name));
        }
        if !has_tags {
            if self.is_flexible_ever() {
                line!(out, "unknown_tags: d.unknown_tags({}),", self.flexible_struct());
            }
            line!(out, "}} }}");
            return;
        }
        line!(out, "unknown_tags: UnknownTags::default() }};");
        line!(out, "let mut tags = d.tags({});", self.flexible_struct());
        line!(out, "while let Some(tag) = d.next_tag(&mut tags) {{ match tag {{");
        for field in fields {
            let Some(tag) = field.tag else { continue };
            let guard = self
                .condition(field.versions, self.flexible_versions())
                .map_or_else(String::new, |condition| format!(" if {condition}"));
            line!(out, "{tag}{guard} => m.{} = {},", snake(&field.name), self.read_value(field));
        }
        line!(out, "_ => d.keep_tag(tag, &mut m.unknown_tags), }} }} m }}");
    }

    fn flexible_versions(&self) -> Versions {
        let flexible = Versions { lowest: self.message.flexible_from, highest: i16::MAX };
        self.message.versions.and(flexible)
    }

    fn read_value(&self, field: &Field) -> String {
        let flexible = self.flexible(field);
        let name = camel(&field.name);
        let nullable = self.may_be_null(field);
        let is_nullable = !field.nullable.is_empty();
        match &field.holds {
            Holds::Scalar(Scalar::Records) => format!("d.records({flexible}, {nullable}, \"{name}\")"),
            Holds::Scalar(scalar @ (Scalar::String | Scalar::Bytes)) => {
                let method = method(*scalar);
                if is_nullable {
                    format!("d.{method}_opt({flexible}, {nullable}, \"{name}\")")
                } else {
                    format!("d.{method}({flexible}, \"{name}\")")
                }
            }
            Holds::Scalar(scalar) => format!("d.{}()", method(*scalar)),
            Holds::ScalarArray(scalar) => {
                let unwrap = if is_nullable { "" } else { ".unwrap_or_default()" };
                format!("d.{}s({flexible}, {nullable}, \"{name}\"){unwrap}", method(*scalar))
            }
            Holds::StructArray(of) if is_nullable => {
                format!("d.structs_opt({flexible}, {nullable}, v, \"{name}\", {of}::read)")
            }
            Holds::StructArray(of) => format!("d.structs({flexible}, v, \"{name}\", {of}::read)"),
            Holds::Struct(of) if is_nullable && field.tag.is_some() => {
                format!("if d.present_in_tag() {{ Some({of}::read(d, v)) }} else {{ None }}")
            }
            Holds::Struct(of) if is_nullable => {
                format!("if d.present({nullable}, \"{name}\") {{ Some({of}::read(d, v)) }} else {{ None }}")
            }
            Holds::Struct(of) => format!("{of}::read(d, v)"),
        }
    }

    fn write(&self, out: &mut String, fields: &[Field]) {
        line!(out, "pub(crate) fn write(&self, e: &mut Encoder, v: i16) {{");
        if self.needs_flexible_variable() {
            line!(out, "let f = v >= {};", self.message.flexible_from);
        }
        for field in fields.iter().filter(|field| field.tag.is_none()) {
            let condition = self.condition(field.versions, self.message.versions);
            self.write_if(out, field, condition, &self.write_value(field));
        }
        let mut tagged: Vec<(u32, &Field)> =
            fields.iter().filter_map(|f| f.tag.map(|tag| (tag, f))).collect();
        tagged.sort_unstable_by_key(|(tag, _)| *tag);
        if !tagged.is_empty() {
            self.write_tags(out, &tagged);
        } else if self.is_flexible_ever() {
            line!(out, "e.unknown_tags({}, &self.unknown_tags);", self.flexible_struct());
        }
        line!(out, "}}");
    }

    /// `written` where the version has the field; elsewhere the field must have its default or be ignorable.
    fn write_if(&self, out: &mut String, field: &Field, condition: Option<String>, written: &str) {
        match (condition, field.ignorable) {
            (None, _) => line!(out, "{written}"),
            (Some(condition), true) => line!(out, "if {condition} {{ {written} }}"),
            (Some(condition), false) => line!(
                out,
                "if {condition} {{ {written} }} else {{ e.absent({}, \"{}\"); }}",
                is_default(field),
                camel(&field.name)
            ),
        }
    }

    fn write_tags(&self, out: &mut String, tagged: &[(u32, &Field)]) {
        for (tag, field) in tagged {
            let condition = self.condition(field.versions, self.message.versions);
            let differs = format!("!({})", is_default(field));
            let has = condition
                .as_ref()
                .map_or_else(|| differs.clone(), |condition| format!("{condition} && {differs}"));
            line!(out, "let has{tag} = {has};");
            if let Some(condition) = condition.filter(|_| !field.ignorable) {
                line!(out, "e.absent({condition} || {}, \"{}\");", is_default(field), camel(&field.name));
            }
        }
        let flexible = self.flexible_struct();
        if flexible == "f" {
            line!(out, "if !f {{ return; }}");
        }
        let count: String = tagged.iter().map(|(tag, _)| format!(" + u32::from(has{tag})")).collect();
        line!(out, "e.unsigned_varint(self.unknown_tags.len() as u32{count});");
        let mut low = 0;
        for (tag, field) in tagged {
            line!(out, "e.unknown_tags_between(&self.unknown_tags, {low}, {tag});");
            let written = self.write_value(field);
            line!(out, "if has{tag} {{ let start = e.begin_tag({tag}); {written} e.end_tag(start); }}");
            // A version that does not know the tag keeps it among the unknown ones.
            low = *tag;
        }
        line!(out, "e.unknown_tags_between(&self.unknown_tags, {low}, u32::MAX);");
    }

    fn write_value(&self, field: &Field) -> String {
        let flexible = self.flexible(field);
        let name = camel(&field.name);
        let place = format!("self.{}", snake(&field.name));
        let nullable = self.may_be_null(field);
        let is_nullable = !field.nullable.is_empty();
        let option = if is_nullable { format!("{place}.as_ref()") } else { format!("Some(&{place})") };
        match &field.holds {
            Holds::Scalar(Scalar::Records) => {
                format!("e.records({flexible}, {nullable}, {place}.as_ref(), \"{name}\");")
            }
            Holds::Scalar(scalar @ (Scalar::String | Scalar::Bytes)) => {
                let method = method(*scalar);
                if is_nullable {
                    format!("e.{method}_opt({flexible}, {nullable}, {option}, \"{name}\");")
                } else {
                    format!("e.{method}({flexible}, &{place});")
                }
            }
            Holds::Scalar(scalar) => format!("e.{}({place});", method(*scalar)),
            Holds::ScalarArray(scalar) => {
                format!("e.{}s({flexible}, {nullable}, {option}, \"{name}\");", method(*scalar))
            }
            Holds::StructArray(of) if is_nullable => {
                format!("e.structs_opt({flexible}, {nullable}, v, {option}, \"{name}\", {of}::write);")
            }
            Holds::StructArray(of) => format!("e.structs({flexible}, v, &{place}, {of}::write);"),
            Holds::Struct(_) if is_nullable && field.tag.is_some() => format!(
                "e.present_in_tag({place}.is_some()); if let Some(inner) = &{place} {{ inner.write(e, v); }}"
            ),
            Holds::Struct(_) if is_nullable => format!(
                "e.present({place}.is_some(), {nullable}, \"{name}\"); if let Some(inner) = &{place} {{ inner.write(e, v); }}"
            ),
            Holds::Struct(_) => format!("{place}.write(e, v);"),
        }
    }

    fn schema(&self, out: &mut String) {
        let message = self.message;
        for inner in message.structs.values() {
            self.fields_table(out, &table_name(&inner.name), &inner.fields);
        }
        self.fields_table(out, "FIELDS", &message.fields);
        let kind: String = message.kind.split('-').map(camel_upper).collect();
        line!(out, "/// The fields as a table.");
        line!(
            out,
            "pub static SCHEMA: Schema = Schema {{ name: \"{}\", kind: Kind::{kind}, type_key: {}, family: \"{}\", lowest: {}, highest: {}, flexible_from: {}, fields: FIELDS }};",
            message.name,
            message.key,
            message.family,
            message.versions.lowest,
            message.versions.highest,
            message.flexible_from
        );
    }

    fn fields_table(&self, out: &mut String, name: &str, fields: &[Field]) {
        line!(out, "static {name}: &[Field] = &[");
        for field in fields {
            let Versions { lowest, highest } = field.versions;
            let mut row = format!(
                "Field::new(\"{}\", {}, {lowest}, {highest})",
                camel(&field.name),
                schema_type(&field.holds)
            );
            if !field.nullable.is_empty() {
                let _ = write!(row, ".nullable({}, {})", field.nullable.lowest, field.nullable.highest);
            }
            if let Some(tag) = field.tag {
                let _ = write!(row, ".tagged({tag})");
            }
            if field.plain {
                row += ".plain()";
            }
            line!(out, "{row},");
        }
        line!(out, "];");
    }

    fn message_impl(&self, out: &mut String) {
        let message = self.message;
        let name = &message.name;
        line!(out, "impl Message for {name} {{");
        line!(out, "const NAME: &'static str = \"{name}\";");
        line!(out, "const TYPE: i16 = {};", message.key);
        line!(
            out,
            "const VERSIONS: RangeInclusive<i16> = {}..={};",
            message.versions.lowest,
            message.versions.highest
        );
        line!(out, "const FLEXIBLE_FROM: i16 = {};", message.flexible_from);
        line!(out, "const SCHEMA: &'static Schema = &SCHEMA;");
        line!(out, "fn read(d: &mut Decoder, v: i16) -> Self {{ Self::read(d, v) }}");
        line!(out, "fn write(&self, e: &mut Encoder, v: i16) {{ self.write(e, v) }}");
        line!(out, "}}");
        if let Some(api) = name.strip_suffix("Request").filter(|_| message.kind == "request") {
            let response = format!("{api}Response");
            line!(out, "impl Request for {name} {{");
            line!(out, "const KEY: ApiKey = ApiKey::{api};");
            line!(out, "type Response = super::{}::{response};", snake(&response));
            line!(out, "}}");
        }
    }
}

fn camel_upper(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

fn table_name(name: &str) -> String {
    format!("{}_FIELDS", snake(name).to_ascii_uppercase())
}

fn method(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Bool => "bool",
        Scalar::Int8 => "int8",
        Scalar::Int16 => "int16",
        Scalar::Uint16 => "uint16",
        Scalar::Int32 => "int32",
        Scalar::Uint32 => "uint32",
        Scalar::Int64 => "int64",
        Scalar::Float64 => "float64",
        Scalar::Uuid => "uuid",
        Scalar::String => "string",
        Scalar::Bytes => "bytes",
        Scalar::Records => "records",
    }
}

fn scalar_type(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Bool => "bool",
        Scalar::Int8 => "i8",
        Scalar::Int16 => "i16",
        Scalar::Uint16 => "u16",
        Scalar::Int32 => "i32",
        Scalar::Uint32 => "u32",
        Scalar::Int64 => "i64",
        Scalar::Float64 => "f64",
        Scalar::Uuid => "Uuid",
        Scalar::String => "Str",
        Scalar::Bytes => "Bytes",
        Scalar::Records => "Records",
    }
}

fn rust_type(field: &Field) -> String {
    let plain = match &field.holds {
        Holds::Scalar(scalar) => scalar_type(*scalar).to_owned(),
        Holds::ScalarArray(scalar) => format!("Vec<{}>", scalar_type(*scalar)),
        Holds::Struct(name) => name.clone(),
        Holds::StructArray(name) => format!("Vec<{name}>"),
    };
    let is_records = field.holds == Holds::Scalar(Scalar::Records);
    if is_records || !field.nullable.is_empty() { format!("Option<{plain}>") } else { plain }
}

fn schema_type(holds: &Holds) -> String {
    let scalar_type = |scalar: Scalar| format!("Type::{}", camel_upper(method(scalar)));
    let struct_type = |name: &str| format!("Type::Struct({})", table_name(name));
    match holds {
        Holds::Scalar(scalar) => scalar_type(*scalar),
        Holds::ScalarArray(scalar) => format!("Type::Array(&{})", scalar_type(*scalar)),
        Holds::Struct(name) => struct_type(name),
        Holds::StructArray(name) => format!("Type::Array(&{})", struct_type(name)),
    }
}

/// Kafka's default: null only where the table says so; a nullable field without one is empty, not null.
fn default(field: &Field) -> String {
    let value = field.default.as_deref();
    if field.holds == Holds::Scalar(Scalar::Records) || value == Some("null") {
        return "None".to_owned();
    }
    let plain = match (&field.holds, value) {
        (Holds::Scalar(Scalar::Bool), value) => value.unwrap_or("false").to_owned(),
        (Holds::Scalar(Scalar::Float64), value) => format!("{}.0", value.unwrap_or("0")),
        (Holds::Scalar(Scalar::Uuid), _) => "Uuid::ZERO".to_owned(),
        (Holds::Scalar(Scalar::String), None | Some("\"\"")) => "Str::empty()".to_owned(),
        (Holds::Scalar(Scalar::String), Some(text)) => format!("Str::from_static({text})"),
        (Holds::Scalar(Scalar::Bytes), _) => "Bytes::new()".to_owned(),
        (Holds::Scalar(_), value) => value.unwrap_or("0").to_owned(),
        (Holds::ScalarArray(_) | Holds::StructArray(_), _) => "Vec::new()".to_owned(),
        (Holds::Struct(name), _) => format!("{name}::default()"),
    };
    if field.nullable.is_empty() { plain } else { format!("Some({plain})") }
}

fn has_rust_default(field: &Field) -> bool {
    let is_option = !field.nullable.is_empty() || field.holds == Holds::Scalar(Scalar::Records);
    match default(field).as_str() {
        "None" => true,
        "0" | "false" | "0.0" | "Uuid::ZERO" | "Str::empty()" | "Bytes::new()" | "Vec::new()" => !is_option,
        other => !is_option && other.ends_with("::default()"),
    }
}

/// Rust for "the field has its default".
fn is_default(field: &Field) -> String {
    let place = format!("self.{}", snake(&field.name));
    match default(field).as_str() {
        "None" => format!("{place}.is_none()"),
        "false" => format!("!{place}"),
        "true" => place,
        "Str::empty()" | "Bytes::new()" | "Vec::new()" => format!("{place}.is_empty()"),
        "Some(Str::empty())" | "Some(Bytes::new())" | "Some(Vec::new())" => {
            format!("{place}.as_ref().is_some_and(|x| x.is_empty())")
        }
        other => format!("{place} == {other}"),
    }
}
