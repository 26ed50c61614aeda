//! A message as JSON: the form in which two codecs compare what they understood.

use bytes::Bytes;
use bytestring::ByteString;
use moldau_base::Uuid;
use moldau_wire::{ErrorCode, Message, Records};
use serde_json::{Map, Value};

use super::{Walk, Walker};

/// The fields that the message has in this version. Bytes are hexadecimal, ids Kafka's text, error codes numbers.
pub fn show<M: Message + Walk>(message: &M, version: i16) -> Value {
    let mut shower = Shower { open: Vec::new(), name: "", last: Value::Null };
    message.clone().walk(version, &mut shower);
    shower.last
}

struct Shower {
    open: Vec<(&'static str, Map<String, Value>)>,
    name: &'static str,
    /// The value last shown, for an array to take.
    last: Value,
}

impl Shower {
    fn put(&mut self, value: Value) {
        if let Some((_, map)) = self.open.last_mut() {
            map.insert(self.name.to_owned(), value.clone());
        }
        self.last = value;
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal digits.
pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hexadecimal"))
        .collect()
}

macro_rules! plain {
    ($($name:ident)*) => { $(
        fn $name(&mut self, value: &mut $name) {
            self.put((*value).into());
        }
    )* };
}

impl Walker for Shower {
    fn begin(&mut self) {
        self.open.push((self.name, Map::new()));
    }

    fn end(&mut self) {
        let (name, map) = self.open.pop().expect("begun");
        self.name = name;
        self.put(Value::Object(map));
    }

    fn name(&mut self, name: &'static str) {
        self.name = name;
    }

    plain!(bool i8 i16 u16 i32 i64);

    fn error(&mut self, value: &mut ErrorCode) {
        self.put(value.0.into());
    }

    fn uuid(&mut self, value: &mut Uuid) {
        self.put(value.to_string().into());
    }

    fn string(&mut self, value: &mut ByteString) {
        self.put((&**value).into());
    }

    fn bytes(&mut self, value: &mut Bytes) {
        self.put(hex(value).into());
    }

    fn records(&mut self, value: &mut Records) {
        match value {
            Records::Null => self.put(Value::Null),
            Records::Bytes(bytes) => self.put(hex(bytes).into()),
            other => panic!("not in memory: {other:?}"),
        }
    }

    fn array<T: Default>(&mut self, items: &mut Vec<T>, mut each: impl FnMut(&mut T, &mut Self)) {
        let name = self.name;
        let mut values = Vec::new();
        for item in items {
            each(item, self);
            values.push(std::mem::take(&mut self.last));
        }
        self.name = name;
        self.put(Value::Array(values));
    }

    fn nullable<T: Default>(
        &mut self,
        _: bool,
        value: &mut Option<T>,
        inner: impl FnOnce(&mut T, &mut Self),
    ) {
        match value {
            Some(value) => inner(value, self),
            None => self.put(Value::Null),
        }
    }
}
