//! Random but valid messages, written from their tables with nothing of the codec under test.

use klamm::protocol::schema::{Field, Schema, Type};

use crate::random::Random;

/// The bytes of a random message of this version.
pub fn random_message(schema: &Schema, version: i16, random: &mut Random) -> Vec<u8> {
    let flexible = version >= schema.flexible_from;
    let mut writer = Writer { bytes: Vec::new(), version, flexible, random, depth: 0 };
    writer.fields(schema.fields);
    writer.bytes
}

struct Writer<'a> {
    bytes: Vec<u8>,
    version: i16,
    flexible: bool,
    random: &'a mut Random,
    depth: usize,
}

impl Writer<'_> {
    fn fields(&mut self, fields: &'static [Field]) {
        let version = self.version;
        let here = |field: &&Field| field.versions.0 <= version && version <= field.versions.1;
        for field in fields.iter().filter(|field| field.tag.is_none()).filter(here) {
            self.field(field);
        }
        if !self.flexible {
            return;
        }
        let mut tagged: Vec<&Field> = fields
            .iter()
            .filter(|field| field.tag.is_some())
            .filter(here)
            .filter(|_| !self.random.one_in(3))
            .collect();
        tagged.sort_by_key(|field| field.tag);
        let unknown = if self.random.one_in(8) { 1 + self.random.below(2) } else { 0 };
        self.varint((tagged.len() + unknown) as u32);
        for field in tagged {
            self.varint(field.tag.unwrap());
            self.with_length(|writer| writer.field(field));
        }
        for index in 0..unknown {
            self.varint(1000 + index as u32);
            self.with_length(|writer| {
                let length = writer.random.below(5);
                writer.noise(length);
            });
        }
    }

    fn field(&mut self, field: &Field) {
        let may_be_null = field.nullable.0 <= self.version && self.version <= field.nullable.1;
        let flexible = self.flexible && field.compact;
        let is_null = may_be_null && self.random.one_in(4);
        if is_null && field.tag.is_some() && matches!(field.holds, Type::Struct(_)) {
            // Inside a tagged field Kafka marks a null struct with 0.
            self.bytes.push(0);
        } else {
            self.value(field.holds, flexible, may_be_null, is_null);
        }
    }

    fn value(&mut self, holds: Type, flexible: bool, may_be_null: bool, is_null: bool) {
        match holds {
            Type::Bool => {
                let value = self.random.below(2) as u8;
                self.bytes.push(value);
            }
            Type::Int8 => self.noise(1),
            Type::Int16 | Type::Uint16 => self.noise(2),
            Type::Int32 | Type::Uint32 => self.noise(4),
            Type::Int64 => self.noise(8),
            Type::Float64 => {
                let value = self.random.below(1000) as f64 / 8.0;
                self.bytes.extend_from_slice(&value.to_be_bytes());
            }
            Type::Uuid => self.noise(16),
            Type::String => {
                let text = self.text();
                self.length(flexible, true, (!is_null).then_some(text.len()));
                self.bytes.extend_from_slice(if is_null { b"" } else { text.as_bytes() });
            }
            Type::Bytes | Type::Records => {
                let length = self.random.below(40);
                self.length(flexible, false, (!is_null).then_some(length));
                self.noise(if is_null { 0 } else { length });
            }
            Type::Struct(fields) => {
                if may_be_null {
                    self.bytes.push(if is_null { 0xff } else { 1 });
                }
                if !is_null {
                    self.fields(fields);
                }
            }
            Type::Array(element) => {
                let count = self.random.below(4 - self.depth.min(2));
                self.length(flexible, false, (!is_null).then_some(count));
                self.depth += 1;
                for _ in 0..if is_null { 0 } else { count } {
                    self.value(*element, flexible, false, false);
                }
                self.depth -= 1;
            }
        }
    }

    fn text(&mut self) -> String {
        let length = if self.random.one_in(50) { 200 } else { 1 + self.random.below(12) };
        (0..length).map(|_| ['a', 'Z', '0', '-', 'ß', '漢'][self.random.below(6)]).collect()
    }

    fn noise(&mut self, length: usize) {
        // Half of the numbers are small, as in life.
        let small = self.random.one_in(2);
        for index in 0..length {
            let byte = self.random.next() as u8;
            self.bytes.push(if small && index + 1 < length { 0 } else { byte });
        }
    }

    fn length(&mut self, flexible: bool, short: bool, length: Option<usize>) {
        let length = length.map_or(-1, |length| length as i32);
        if flexible {
            self.varint((length + 1) as u32);
        } else if short {
            self.bytes.extend_from_slice(&(length as i16).to_be_bytes());
        } else {
            self.bytes.extend_from_slice(&length.to_be_bytes());
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn with_length(&mut self, write: impl FnOnce(&mut Self)) {
        let outer = std::mem::take(&mut self.bytes);
        write(self);
        let value = std::mem::replace(&mut self.bytes, outer);
        self.varint(value.len() as u32);
        self.bytes.extend_from_slice(&value);
    }
}
