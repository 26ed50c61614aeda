//! Reading the schema files of `crates/wire/schema` (their format is told in the README there) into a model that the
//! emitters walk. All mistakes that a schema can have are found here or in [`super::layout`], with file and line.

use anyhow::{Context, Result, bail, ensure};

/// Versions from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    pub fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    fn within(self, outer: Versions) -> bool {
        outer.min <= self.min && self.max <= outer.max
    }

    /// Reads `4`, `4-12` or `4+`, which reaches to the end of `outer`.
    fn parse(text: &str, outer: Option<Versions>) -> Result<Versions> {
        let number = |text: &str| text.parse::<i16>().with_context(|| format!("'{text}' is not a version"));
        let (min, max) = if let Some(min) = text.strip_suffix('+') {
            (number(min)?, outer.context("'+' needs versions around it")?.max)
        } else if let Some((min, max)) = text.split_once('-') {
            (number(min)?, number(max)?)
        } else {
            (number(text)?, number(text)?)
        };
        ensure!(min <= max, "no versions in '{text}'");
        Ok(Versions { min, max })
    }
}

/// What one element of a field is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    Bool,
    I8,
    I16,
    U16,
    I32,
    I64,
    Error,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
}

impl Base {
    fn parse(text: &str) -> Result<Base> {
        Ok(match text {
            "bool" => Base::Bool,
            "i8" => Base::I8,
            "i16" => Base::I16,
            "u16" => Base::U16,
            "i32" => Base::I32,
            "i64" => Base::I64,
            "error" => Base::Error,
            "uuid" => Base::Uuid,
            "string" => Base::String,
            "bytes" => Base::Bytes,
            "records" => Base::Records,
            name if name.starts_with(|c: char| c.is_ascii_uppercase()) => Base::Struct(name.to_owned()),
            other => bail!("unknown type '{other}'"),
        })
    }
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub array: bool,
    pub base: Base,
    pub versions: Versions,
    /// The first version in which the field may be null; it may be in all later ones.
    pub null_since: Option<i16>,
    pub default: Option<String>,
    pub tag: Option<u32>,
    pub ignorable: bool,
    /// Lengths stay plain in flexible versions.
    pub plain: bool,
}

#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    /// The versions in which the structure can occur.
    pub versions: Versions,
    pub fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Message,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub kind: Kind,
    /// `Request`, `Response`, or the message's own name.
    pub name: String,
    pub key: Option<i16>,
    pub flexible: Option<i16>,
    /// The message itself.
    pub root: Struct,
    /// The structures in it, in the order of the file.
    pub structs: Vec<Struct>,
}

impl Message {
    pub fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|s| s.name == name)
    }
}

#[derive(Clone, Debug)]
pub struct Api {
    pub name: String,
    pub key: i16,
    pub advertised: Option<Versions>,
}

/// One schema file: one module of generated code.
#[derive(Clone, Debug)]
pub struct File {
    pub module: String,
    pub doc: Vec<String>,
    pub api: Option<Api>,
    /// The name of an enum over the messages that have keys.
    pub union: Option<String>,
    pub messages: Vec<Message>,
}

/// A line of text that says something: its depth, its words and where it is.
struct Line<'a> {
    number: usize,
    depth: usize,
    words: Vec<&'a str>,
}

impl File {
    pub fn parse(module: &str, text: &str) -> Result<File> {
        let mut file =
            File { module: module.to_owned(), doc: Vec::new(), api: None, union: None, messages: Vec::new() };
        for line in text.lines() {
            let Some(doc) = line.strip_prefix('#') else { break };
            file.doc.push(doc.trim().to_owned());
        }
        let lines = split(text).with_context(|| format!("{module}.txt"))?;
        let mut rest = &lines[..];
        while let [line, after @ ..] = rest {
            let depth = after.iter().take_while(|l| l.depth > 0).count();
            let (body, next) = after.split_at(depth);
            file.item(line, body).with_context(|| format!("{module}.txt:{}", line.number))?;
            rest = next;
        }
        super::layout::check(&file).with_context(|| format!("{module}.txt"))?;
        Ok(file)
    }

    fn item(&mut self, line: &Line, body: &[Line]) -> Result<()> {
        let message = match line.words[..] {
            ["api", name, key] => {
                self.api = Some(Api { name: name.to_owned(), key: key.parse()?, advertised: None });
                return Ok(());
            }
            ["api", name, key, "advertised", versions] => {
                let advertised = Some(Versions::parse(versions, None)?);
                self.api = Some(Api { name: name.to_owned(), key: key.parse()?, advertised });
                return Ok(());
            }
            ["union", name] => {
                self.union = Some(name.to_owned());
                return Ok(());
            }
            ["request", ref rest @ ..] => Message::new(Kind::Request, "Request", None, rest)?,
            ["response", ref rest @ ..] => Message::new(Kind::Response, "Response", None, rest)?,
            ["message", name, "key", key, ref rest @ ..] => {
                Message::new(Kind::Message, name, Some(key.parse()?), rest)?
            }
            ["message", name, ref rest @ ..] => Message::new(Kind::Message, name, None, rest)?,
            _ => bail!("expected 'api', 'union', 'request', 'response' or 'message'"),
        };
        self.messages.push(message.with_body(body)?);
        Ok(())
    }
}

fn split(text: &str) -> Result<Vec<Line<'_>>> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.split('#').next().unwrap_or_default();
        let indent = code.len() - code.trim_start().len();
        let words: Vec<&str> = code.split_whitespace().collect();
        ensure!(words.is_empty() || indent % 2 == 0, "line {}: indent by two spaces", index + 1);
        if !words.is_empty() {
            lines.push(Line { number: index + 1, depth: indent / 2, words });
        }
    }
    Ok(lines)
}

impl Message {
    fn new(kind: Kind, name: &str, key: Option<i16>, words: &[&str]) -> Result<Message> {
        let (versions, flexible) = match words {
            [versions] => (Versions::parse(versions, None)?, None),
            [versions, "flexible", since] => {
                let versions = Versions::parse(versions, None)?;
                (versions, Some(Versions::parse(since, Some(versions))?.min))
            }
            _ => bail!("expected versions and perhaps 'flexible N+'"),
        };
        let root = Struct { name: name.to_owned(), versions, fields: Vec::new() };
        Ok(Message { kind, name: name.to_owned(), key, flexible, root, structs: Vec::new() })
    }

    fn with_body(mut self, body: &[Line]) -> Result<Message> {
        let versions = self.root.versions;
        let own = body.iter().position(|line| line.words[0] == "struct").unwrap_or(body.len());
        let (own, mut rest) = body.split_at(own);
        self.root.fields = self.fields(own, versions)?;
        while let [line, after @ ..] = rest {
            let ["struct", name] = line.words[..] else { bail!("line {}: expected 'struct'", line.number) };
            let children = after.iter().take_while(|l| l.depth > line.depth).count();
            let (fields, next) = after.split_at(children);
            self.nest(name, fields, versions)?;
            rest = next;
        }
        Ok(self)
    }

    fn nest(&mut self, name: &str, lines: &[Line], versions: Versions) -> Result<()> {
        ensure!(self.find(name).is_none(), "two structures of the name {name}");
        let place = self.structs.len();
        let fields = self.fields(lines, versions)?;
        self.structs.insert(place, Struct { name: name.to_owned(), versions, fields });
        Ok(())
    }

    fn fields(&mut self, lines: &[Line], outer: Versions) -> Result<Vec<Field>> {
        let mut fields: Vec<Field> = Vec::new();
        let mut rest = lines;
        while let [line, after @ ..] = rest {
            let children = after.iter().take_while(|l| l.depth > line.depth).count();
            let (body, next) = after.split_at(children);
            let place = || format!("line {}", line.number);
            let field = Field::parse(&line.words, outer).with_context(place)?;
            ensure!(
                fields.iter().all(|f| f.name != field.name),
                "line {}: twice {}",
                line.number,
                field.name
            );
            if let (Base::Struct(name), false) = (&field.base, body.is_empty()) {
                self.nest(name, body, field.versions).with_context(place)?;
            } else {
                ensure!(body.is_empty(), "line {}: only a structure has fields", line.number);
            }
            fields.push(field);
            rest = next;
        }
        Ok(fields)
    }
}

impl Field {
    fn parse(words: &[&str], outer: Versions) -> Result<Field> {
        let [name, ty, attributes @ ..] = words else { bail!("expected 'name: type'") };
        let name = name.strip_suffix(':').context("expected a colon after the name")?;
        let (array, ty) = ty.strip_prefix("[]").map_or((false, *ty), |element| (true, element));
        let (nullable, ty) = ty.strip_suffix('?').map_or((false, ty), |ty| (true, ty));
        let mut field = Field {
            name: name.to_owned(),
            array,
            base: Base::parse(ty)?,
            versions: outer,
            null_since: None,
            default: None,
            tag: None,
            ignorable: false,
            plain: false,
        };
        let mut rest = attributes;
        if let [first, after @ ..] = rest
            && first.starts_with(|c: char| c.is_ascii_digit())
        {
            field.versions = Versions::parse(first, Some(outer))?;
            ensure!(field.versions.within(outer), "versions {first} reach beyond what is around them");
            rest = after;
        }
        field.null_since = nullable.then_some(field.versions.min);
        while !rest.is_empty() {
            rest = field.attribute(rest)?;
        }
        Ok(field)
    }

    fn attribute<'a, 'b>(&mut self, words: &'a [&'b str]) -> Result<&'a [&'b str]> {
        Ok(match words {
            ["null", versions, rest @ ..] => {
                let null = Versions::parse(versions, Some(self.versions))?;
                ensure!(
                    null.within(self.versions) && null.max == self.versions.max,
                    "null {versions} ends early"
                );
                self.null_since = Some(null.min);
                rest
            }
            ["=", value, rest @ ..] => {
                self.default = Some((*value).to_owned());
                rest
            }
            ["tag", tag, rest @ ..] => {
                self.tag = Some(tag.parse()?);
                rest
            }
            ["ignorable", rest @ ..] => {
                self.ignorable = true;
                rest
            }
            ["plain", rest @ ..] => {
                self.plain = true;
                rest
            }
            other => bail!("unknown attribute '{}'", other[0]),
        })
    }
}
