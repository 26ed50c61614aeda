//! What follows from a schema without looking at Rust: the smallest size of a structure, and the rules that a schema
//! must keep so that the generated code is right.

use anyhow::{Result, bail, ensure};

use super::schema::{Base, Field, File, Message, Struct};

/// Refuses schemas that would make wrong or unsafe code.
pub fn check(file: &File) -> Result<()> {
    for message in &file.messages {
        for (s, field) in all_structs(message).flat_map(|s| s.fields.iter().map(move |f| (s, f))) {
            check_field(message, s, field)
                .map_err(|error| error.context(format!("{}.{}.{}", message.name, s.name, field.name)))?;
        }
    }
    Ok(())
}

/// The message itself and the structures in it.
pub fn all_structs(message: &Message) -> impl Iterator<Item = &Struct> {
    std::iter::once(&message.root).chain(&message.structs)
}

fn check_field(message: &Message, owner: &Struct, field: &Field) -> Result<()> {
    if let Base::Struct(name) = &field.base {
        let Some(target) = message.find(name) else { bail!("no structure {name}") };
        let covered = target.versions.min <= field.versions.min && field.versions.max <= target.versions.max;
        ensure!(covered, "{name} does not exist in all versions of the field");
    }
    if field.array {
        for version in field.versions.min..=field.versions.max {
            ensure!(
                smallest_element(message, field, version) > 0,
                "elements without bytes in version {version}"
            );
        }
        ensure!(field.base != Base::Records, "no arrays of records");
    }
    if let Some(tag) = field.tag {
        let flexible = message.flexible.unwrap_or(i16::MAX);
        ensure!(field.versions.min >= flexible, "a tag before the first flexible version");
        ensure!(field.versions.max == owner.versions.max, "a tag that is withdrawn");
        ensure!(owner.fields.iter().filter(|f| f.tag == Some(tag)).count() == 1, "tag {tag} twice");
    }
    let nullable_kind =
        field.array || matches!(field.base, Base::String | Base::Bytes | Base::Records | Base::Struct(_));
    ensure!(field.null_since.is_none() || nullable_kind, "a field of this type is never null");
    if field.base == Base::Records {
        ensure!(field.null_since == Some(field.versions.min), "records are always nullable");
    }
    if let (Some("null"), None) = (field.default.as_deref(), field.null_since) {
        bail!("the default is null, the field is not");
    }
    Ok(())
}

/// The smallest number of bytes that `owner` takes in this version.
pub fn smallest(message: &Message, owner: &Struct, version: i16) -> usize {
    let flexible = message.flexible.is_some_and(|first| version >= first);
    let present = owner.fields.iter().filter(|f| f.tag.is_none() && f.versions.contains(version));
    let fields: usize = present.map(|f| smallest_field(message, f, version)).sum();
    fields + usize::from(flexible)
}

/// The smallest number of bytes of one element of an array.
pub fn smallest_element(message: &Message, field: &Field, version: i16) -> usize {
    let element = Field { array: false, null_since: None, ..field.clone() };
    smallest_field(message, &element, version)
}

fn smallest_field(message: &Message, field: &Field, version: i16) -> usize {
    let compact = !field.plain && message.flexible.is_some_and(|first| version >= first);
    if field.array {
        return if compact { 1 } else { 4 };
    }
    match &field.base {
        Base::Bool | Base::I8 => 1,
        Base::I16 | Base::U16 | Base::Error => 2,
        Base::I32 => 4,
        Base::I64 => 8,
        Base::Uuid => 16,
        Base::String => 2 - usize::from(compact),
        Base::Bytes | Base::Records => 4 - 3 * usize::from(compact),
        Base::Struct(_) if field.null_since.is_some() => 1,
        Base::Struct(name) => message.find(name).map_or(0, |s| smallest(message, s, version)),
    }
}
