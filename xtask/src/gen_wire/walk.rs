//! The walk of the tests: one function per structure that shows every field of a version to a walker, by name and in
//! order. Random values, the form that is compared with another codec, and tables over all messages come from it.

use std::fmt::Write;

use super::decode::reader_method;
use super::emit::{BANNER, uses};
use super::layout::all_structs;
use super::schema::{Base, Field, File, Kind};
use super::types::{Place, condition};

/// The walk of all structures of one schema file.
pub fn module(file: &File) -> String {
    let mut out =
        format!("{BANNER}use moldau_wire::{};\n\nuse super::super::{{Walk, Walker}};\n\n", file.module);
    for message in &file.messages {
        for owner in all_structs(message) {
            let place = Place { message, owner, label: String::new() };
            let path = path(file, &place);
            let body: String = owner.fields.iter().map(|field| statement(&place, field)).collect();
            let version = if uses(&body, "version") { "version" } else { "_version" };
            let _ = write!(
                out,
                "impl Walk for {path} {{\nfn walk<W: Walker>(&mut self, {version}: i16, w: &mut W) {{\n\
                 w.begin();\n{body}w.end();\n}}\n}}\n\n"
            );
        }
    }
    out
}

fn path(file: &File, place: &Place) -> String {
    let inner = match place.message.kind {
        Kind::Request if place.owner.name != place.message.name => "request::",
        Kind::Response if place.owner.name != place.message.name => "response::",
        _ => "",
    };
    format!("{}::{inner}{}", file.module, place.owner.name)
}

/// The table of all messages.
pub fn root(files: &[File]) -> String {
    let mut out = format!("{BANNER}//! The walks of all messages, and the table of them.\n\n");
    for file in files {
        let _ = writeln!(out, "mod {};", file.module);
    }
    out += "\nuse super::{Kind, Visitor};\n\n/// Shows every message type to a visitor.\npub fn visit_all(v: &mut impl Visitor) {\n";
    for file in files {
        for message in &file.messages {
            let kind = match (message.kind, &file.api) {
                (Kind::Request, Some(api)) => format!("Kind::Request({})", api.key),
                (Kind::Response, Some(api)) => format!("Kind::Response({})", api.key),
                _ => "Kind::Data".to_owned(),
            };
            let _ = writeln!(out, "v.visit::<moldau_wire::{}::{}>({kind});", file.module, message.name);
        }
    }
    out + "}\n"
}

fn statement(place: &Place, field: &Field) -> String {
    let name = &field.name;
    let target = format!("&mut self.{name}");
    let show = format!("w.name({name:?});\n{};\n", outer(place, field, &target));
    let present = condition(field.versions, place.owner.versions);
    if present.is_empty() { show } else { format!("if {present} {{\n{show}}}\n") }
}

fn outer(place: &Place, field: &Field, target: &str) -> String {
    match field.null_since {
        Some(_) if place.rust_type(field) == "Records" => format!("w.records({target})"),
        Some(since) => {
            let allowed =
                if since <= field.versions.min { "true".to_owned() } else { format!("version >= {since}") };
            format!("w.nullable({allowed}, {target}, |value, w| {})", inner(field, "value"))
        }
        None => inner(field, target),
    }
}

fn inner(field: &Field, target: &str) -> String {
    if field.array {
        return format!("w.array({target}, |item, w| {})", one(&field.base, "item"));
    }
    one(&field.base, target)
}

fn one(base: &Base, target: &str) -> String {
    match base {
        Base::String => format!("w.string({target})"),
        Base::Bytes | Base::Records => format!("w.bytes({target})"),
        Base::Struct(_) => {
            let place = target.strip_prefix("&mut ").unwrap_or(target);
            format!("{place}.walk(version, w)")
        }
        simple => format!("w.{}({target})", reader_method(simple)),
    }
}
