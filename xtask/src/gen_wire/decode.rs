//! The body of a structure's `decode`.

use std::fmt::Write;

use super::schema::{Base, Field};
use super::types::{Place, condition};

/// Reads all fields into variables of their names and makes the structure of them.
pub fn body(place: &Place) -> String {
    let mut out = String::new();
    for field in place.owner.fields.iter().filter(|f| f.tag.is_none()) {
        let value = value(place, field);
        let present = condition(field.versions, place.owner.versions);
        let name = &field.name;
        let _ = if present.is_empty() {
            writeln!(out, "let {name} = {value};")
        } else {
            writeln!(out, "let {name} = if {present} {{ {value} }} else {{ {} }};", place.default(field))
        };
    }
    out += &tags(place);
    let names: Vec<&str> = place.owner.fields.iter().map(|f| f.name.as_str()).collect();
    out + &format!("Ok(Self {{ {} }})\n", names.join(", "))
}

fn tags(place: &Place) -> String {
    let Some(flexible) = place.flexible_if() else { return String::new() };
    let mut tagged: Vec<(u32, &Field)> =
        place.owner.fields.iter().filter_map(|f| f.tag.map(|tag| (tag, f))).collect();
    let mut out = String::new();
    for (_, field) in &tagged {
        let _ = writeln!(out, "let mut {} = {};", field.name, place.default(field));
    }
    tagged.sort_by_key(|(tag, _)| *tag);
    let mut section = String::new();
    if tagged.is_empty() {
        section += "r.skip_tags()?;\n";
    } else {
        section += "for _ in 0..r.tag_count()? {\nlet (tag, size) = r.tag()?;\nmatch tag {\n";
        for (tag, field) in tagged {
            let value = value(place, field);
            let value = match value.strip_suffix('?') {
                Some(call) if !call.contains('\n') && !call.starts_with("if ") => {
                    format!("r.tagged(size, |r| {call})?")
                }
                _ => format!("r.tagged(size, |r| Ok({value}))?"),
            };
            let since = field.versions.min;
            let first = place.message.flexible.unwrap_or_default().max(place.owner.versions.min);
            let guard = if since > first { format!(" if version >= {since}") } else { String::new() };
            let _ = writeln!(section, "{tag}{guard} => {} = {value},", field.name);
        }
        section += "_ => r.skip(size)?,\n}\n}\n";
    }
    out + &super::types_if(&flexible, &section)
}

/// The expression that reads one field that is there.
fn value(place: &Place, field: &Field) -> String {
    let form = place.form(field);
    let read = |nullable: bool| -> String {
        if field.array {
            let name = if nullable { "nullable_array" } else { "array" };
            let (smallest, element) = element(place, field, form);
            return format!("r.{name}({form}, {smallest}, {element})?");
        }
        let prefix = if nullable { "nullable_" } else { "" };
        match &field.base {
            Base::String => format!("r.{prefix}string({form})?"),
            Base::Bytes => format!("r.{prefix}bytes({form})?"),
            Base::Records if place.rust_type(field) == "Records" => format!("r.records({form})?"),
            Base::Records => format!("r.nullable_bytes({form})?"),
            Base::Struct(name) if nullable => {
                format!("r.nullable(|r| {}::decode(r, version))?", place.struct_path(name))
            }
            Base::Struct(name) => format!("{}::decode(r, version)?", place.struct_path(name)),
            simple => format!("r.{}()?", reader_method(simple)),
        }
    };
    match field.null_since {
        None => read(false),
        Some(since) if since <= field.versions.min => read(true),
        Some(since) => format!("if version >= {since} {{ {} }} else {{ Some({}) }}", read(true), read(false)),
    }
}

/// The smallest size of an element of an array and the function that reads one, as Rust expressions.
fn element(place: &Place, field: &Field, form: &str) -> (String, String) {
    match &field.base {
        Base::String => (format!("{form}.smallest_string()"), format!("|r| r.string({form})")),
        Base::Bytes => (format!("{form}.smallest_bytes()"), format!("|r| r.bytes({form})")),
        Base::Struct(name) => {
            let path = place.struct_path(name);
            (format!("{path}::smallest(version)"), format!("|r| {path}::decode(r, version)"))
        }
        simple => (size(simple).to_string(), format!("Reader::{}", reader_method(simple))),
    }
}

fn size(base: &Base) -> usize {
    match base {
        Base::Bool | Base::I8 => 1,
        Base::I16 | Base::U16 | Base::Error => 2,
        Base::I32 => 4,
        Base::I64 => 8,
        _ => 16,
    }
}

/// The method of `Reader` and of `Writer` for a type of fixed size.
pub fn reader_method(base: &Base) -> &'static str {
    match base {
        Base::Bool => "bool",
        Base::I8 => "i8",
        Base::I16 => "i16",
        Base::U16 => "u16",
        Base::I32 => "i32",
        Base::I64 => "i64",
        Base::Error => "error",
        _ => "uuid",
    }
}
