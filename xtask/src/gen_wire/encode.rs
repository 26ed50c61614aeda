//! The body of a structure's `encode`.

use std::fmt::Write;

use super::decode::reader_method;
use super::schema::{Base, Field};
use super::types::{Place, condition};

/// Writes all fields that the version has and refuses what it has no place for.
pub fn body(place: &Place) -> String {
    let mut out = String::new();
    for field in place.owner.fields.iter().filter(|f| f.tag.is_none()) {
        let present = condition(field.versions, place.owner.versions);
        let write = value(place, field);
        if present.is_empty() {
            out += &write;
            continue;
        }
        let _ = write!(out, "if {present} {{\n{write}}}");
        if !field.ignorable {
            let _ = write!(out, " else if {} {{\n{}}}", place.differs(field), unrepresentable(place, field));
        }
        out.push('\n');
    }
    for field in place.owner.fields.iter().filter(|f| f.tag.is_some() && !f.ignorable) {
        let present = condition(field.versions, place.owner.versions);
        if !present.is_empty() {
            let absent = format!("version < {}", field.versions.min);
            let differs = place.differs(field);
            let _ = write!(out, "if {absent} && {differs} {{\n{}}}\n", unrepresentable(place, field));
        }
    }
    out + &tags(place)
}

fn unrepresentable(place: &Place, field: &Field) -> String {
    format!("w.unrepresentable({:?}, {:?}, version);\n", place.label, field.name)
}

fn tags(place: &Place) -> String {
    let Some(flexible) = place.flexible_if() else { return String::new() };
    let mut tagged: Vec<(u32, &Field)> =
        place.owner.fields.iter().filter_map(|f| f.tag.map(|tag| (tag, f))).collect();
    tagged.sort_by_key(|(tag, _)| *tag);
    if tagged.is_empty() {
        return super::types_if(&flexible, "w.no_tags();\n");
    }
    let mut section = String::new();
    for (tag, field) in &tagged {
        let since = field.versions.min;
        let first = place.message.flexible.unwrap_or_default().max(place.owner.versions.min);
        let guard = if since > first { format!("version >= {since} && ") } else { String::new() };
        let differs = place.differs(field);
        let differs =
            if guard.is_empty() || !differs.contains("||") { differs } else { format!("({differs})") };
        let _ = writeln!(section, "let has_{tag} = {guard}{differs};");
    }
    let counts: Vec<String> = tagged.iter().map(|(tag, _)| format!("u32::from(has_{tag})")).collect();
    let _ = writeln!(section, "w.uvarint({});", counts.join(" + "));
    for (tag, field) in &tagged {
        let _ = writeln!(section, "if has_{tag} {{\nw.tagged({tag}, |w| {{\n{}}});\n}}", value(place, field));
    }
    super::types_if(&flexible, &section)
}

/// The statements that write one field that the version has.
fn value(place: &Place, field: &Field) -> String {
    let name = format!("self.{}", field.name);
    let form = place.form(field);
    match field.null_since {
        None => present(place, field, &name),
        Some(_) if place.rust_type(field) == "Records" => present(place, field, &name),
        Some(since) if since <= field.versions.min => nullable(place, field, form, &name),
        Some(since) => {
            let write = present(place, field, "value");
            let null = if field.array || field.base == Base::Bytes { "null_length" } else { "null_string" };
            format!(
                "match &{name} {{\nSome(value) => {{ {write} }}\nNone if version >= {since} => w.{null}({form}),\n\
                 None => w.null({:?}, {:?}, version),\n}}\n",
                place.label, field.name
            )
        }
    }
}

fn nullable(place: &Place, field: &Field, form: &str, name: &str) -> String {
    if field.array {
        let write = present(place, field, "value");
        return format!(
            "match &{name} {{\nSome(value) => {{ {write} }}\nNone => w.null_length({form}),\n}}\n"
        );
    }
    match &field.base {
        Base::String => format!("w.nullable_string({form}, &{name});\n"),
        Base::Struct(_) => {
            let write = present(place, field, "value");
            format!("match &{name} {{\nSome(value) => {{ w.i8(1);\n{write} }}\nNone => w.i8(-1),\n}}\n")
        }
        _ => format!("w.nullable_bytes({form}, &{name});\n"),
    }
}

/// The statements that write a field that is not null; `name` is a place or a reference.
fn present(place: &Place, field: &Field, name: &str) -> String {
    let form = place.form(field);
    if field.array {
        let element = Field { array: false, null_since: None, ..field.clone() };
        let (pattern, element) = match &field.base {
            Base::String | Base::Bytes | Base::Records | Base::Struct(_) => {
                ("item", one(form, &element, "item", "item"))
            }
            _ => ("&item", one(form, &element, "item", "item")),
        };
        let iter = if name.starts_with("self.") { format!("&{name}") } else { name.to_owned() };
        return format!("w.length({form}, {name}.len());\nfor {pattern} in {iter} {{\n{element}}}\n");
    }
    let reference = if name.starts_with("self.") { format!("&{name}") } else { name.to_owned() };
    one(form, field, name, &reference)
}

fn one(form: &str, field: &Field, name: &str, reference: &str) -> String {
    match &field.base {
        Base::String => format!("w.string({form}, {reference});\n"),
        Base::Bytes => format!("w.bytes({form}, {reference});\n"),
        Base::Records => format!("w.records({form}, {reference});\n"),
        Base::Struct(_) => format!("{name}.encode(w, version);\n"),
        simple => format!("w.{}({name});\n", reader_method(simple)),
    }
}
