//! How schema types look in Rust: type names, defaults, the test for "at its default", conditions on the version.

use super::schema::{Base, Field, Kind, Message, Struct, Versions};

/// Where a structure's code stands: the message and the structure.
pub struct Place<'a> {
    pub message: &'a Message,
    pub owner: &'a Struct,
    /// The name for errors: `FetchRequest`, `FetchRequest.Topic`.
    pub label: String,
}

impl Place<'_> {
    /// The Rust expression of the form in which lengths of `field` are written.
    pub fn form(&self, field: &Field) -> &'static str {
        match self.message.flexible {
            _ if field.plain => "Form::Plain",
            None => "Form::Plain",
            Some(first) if first <= self.owner.versions.min => "Form::Compact",
            Some(first) if first > self.owner.versions.max => "Form::Plain",
            Some(_) => "form",
        }
    }

    /// The line that defines `form`, if the structure has both forms and its code uses it.
    pub fn form_line(&self, code: &str) -> String {
        let uses = code.contains("(form,") || code.contains("(form)") || code.contains("form.");
        match self.message.flexible {
            Some(first) if uses => format!("let form = Form::of(version, {first});\n"),
            _ => String::new(),
        }
    }

    /// The condition for being flexible: `None` never, an empty string always.
    pub fn flexible_if(&self) -> Option<String> {
        let first = self.message.flexible?;
        if first > self.owner.versions.max {
            None
        } else if first <= self.owner.versions.min {
            Some(String::new())
        } else {
            Some(format!("version >= {first}"))
        }
    }

    /// The Rust type of a field.
    pub fn rust_type(&self, field: &Field) -> String {
        let base = match &field.base {
            Base::Records if self.message.kind == Kind::Response => return "Records".to_owned(),
            Base::Records | Base::Bytes => "Bytes".to_owned(),
            Base::Bool => "bool".to_owned(),
            Base::I8 => "i8".to_owned(),
            Base::I16 => "i16".to_owned(),
            Base::U16 => "u16".to_owned(),
            Base::I32 => "i32".to_owned(),
            Base::I64 => "i64".to_owned(),
            Base::Error => "ErrorCode".to_owned(),
            Base::Uuid => "Uuid".to_owned(),
            Base::String => "ByteString".to_owned(),
            Base::Struct(name) => self.struct_path(name),
        };
        let element = if field.array { format!("Vec<{base}>") } else { base };
        if field.null_since.is_some() { format!("Option<{element}>") } else { element }
    }

    /// How the code of this structure names another structure of the message.
    pub fn struct_path(&self, name: &str) -> String {
        match self.message.kind {
            Kind::Request if self.owner.name == self.message.name => format!("request::{name}"),
            Kind::Response if self.owner.name == self.message.name => format!("response::{name}"),
            _ => name.to_owned(),
        }
    }

    fn is_response_records(&self, field: &Field) -> bool {
        field.base == Base::Records && self.message.kind == Kind::Response
    }

    /// The Rust expression of the field's default.
    pub fn default(&self, field: &Field) -> String {
        if self.is_response_records(field) {
            return "Records::Null".to_owned();
        }
        if field.default.as_deref() == Some("null") || field.base == Base::Records {
            return "None".to_owned();
        }
        let value = match (&field.base, &field.default) {
            _ if field.array => "Vec::new()".to_owned(),
            (Base::Bool, value) => value.clone().unwrap_or_else(|| "false".to_owned()),
            (Base::I8 | Base::I16 | Base::U16 | Base::I32 | Base::I64, value) => {
                number(field, value.as_deref())
            }
            (Base::Error, _) => "ErrorCode::NONE".to_owned(),
            (Base::Uuid, _) => "Uuid::ZERO".to_owned(),
            (Base::String, None) => "ByteString::new()".to_owned(),
            (Base::String, Some(text)) => format!("ByteString::from_static({text:?})"),
            (Base::Bytes | Base::Records, _) => "Bytes::new()".to_owned(),
            (Base::Struct(name), _) => format!("{}::default()", self.struct_path(name)),
        };
        if field.null_since.is_some() { format!("Some({value})") } else { value }
    }

    /// Whether the default is what `Default` of the Rust type gives.
    pub fn default_is_natural(&self, field: &Field) -> bool {
        let default = self.default(field);
        !default.starts_with("Some(") && !default.starts_with("ByteString::from_static") && {
            !matches!(field.base, Base::Bool | Base::I8 | Base::I16 | Base::U16 | Base::I32 | Base::I64)
                || field.array
                || matches!(default.as_str(), "0" | "false" | "None")
        }
    }

    /// The Rust condition for the field not being at its default.
    pub fn differs(&self, field: &Field) -> String {
        let name = format!("self.{}", field.name);
        let default = self.default(field);
        match default.as_str() {
            "None" => format!("{name}.is_some()"),
            "false" => name,
            "true" => format!("!{name}"),
            "Records::Null" => format!("{name} != Records::Null"),
            "ErrorCode::NONE" => format!("{name}.is_err()"),
            "Uuid::ZERO" => format!("!{name}.is_zero()"),
            "Vec::new()" | "ByteString::new()" | "Bytes::new()" => format!("!{name}.is_empty()"),
            some if some.starts_with("Some(") => {
                format!("{name}.as_ref().is_none_or(|value| !value.is_empty())")
            }
            other => format!("{name} != {other}"),
        }
    }
}

fn number(field: &Field, value: Option<&str>) -> String {
    let value = value.unwrap_or("0");
    match (&field.base, value) {
        (Base::I32, "2147483647") => "i32::MAX".to_owned(),
        (Base::I32, "-2147483648") => "i32::MIN".to_owned(),
        (Base::I64, "9223372036854775807") => "i64::MAX".to_owned(),
        (_, value) => value.to_owned(),
    }
}

/// The Rust condition for `version`, known to be in `outer`, being in `inner`; empty when it always is.
pub fn condition(inner: Versions, outer: Versions) -> String {
    match (inner.min > outer.min, inner.max < outer.max) {
        (false, false) => String::new(),
        _ if inner.min == inner.max => format!("version == {}", inner.min),
        (true, false) => format!("version >= {}", inner.min),
        (false, true) => format!("version <= {}", inner.max),
        (true, true) => format!("({}..={}).contains(&version)", inner.min, inner.max),
    }
}
