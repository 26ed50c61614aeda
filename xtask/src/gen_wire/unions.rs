//! The enums over all messages: `ApiKey`, `Request`, `Response`, and a record enum where a schema file asks for one.

use std::fmt::Write;

use super::emit::{BANNER, imports};
use super::schema::{Api, File, Kind, Message, Versions};

/// The source of `generated/mod.rs`.
pub fn root(files: &[File]) -> String {
    let mut apis: Vec<(&Api, &File)> =
        files.iter().filter_map(|f| f.api.as_ref().map(|api| (api, f))).collect();
    apis.sort_by_key(|(api, _)| api.key);
    let mut code = api_key(&apis);
    code += &messages(&apis, Kind::Request);
    code += &messages(&apis, Kind::Response);
    let mut out = String::from(BANNER);
    out += "//! The modules of all APIs and the enums over them.\n\n";
    for file in files {
        let _ = writeln!(out, "pub mod {};", file.module);
    }
    out.push('\n');
    out += &imports(&code, "crate").replace("{ApiKey, ", "{");
    out + &code
}

fn range(versions: Versions) -> String {
    format!("VersionRange {{ min: {}, max: {} }}", versions.min, versions.max)
}

fn arms(apis: &[(&Api, &File)], arm: impl Fn(&Api, &File) -> String) -> String {
    apis.iter().map(|(api, file)| format!("ApiKey::{} => {},\n", api.name, arm(api, file))).collect()
}

fn request(file: &File) -> Option<&Message> {
    file.messages.iter().find(|m| m.kind == Kind::Request)
}

fn api_key(apis: &[(&Api, &File)]) -> String {
    let mut out = String::from(
        "/// The APIs that this crate can read and write, by the key in a request's header.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n#[repr(i16)]\npub enum ApiKey {\n",
    );
    for (api, file) in apis {
        let doc = file.doc.join(" ");
        let _ = writeln!(out, "/// Key {}: {doc}.\n{} = {},", api.key, api.name, api.key);
    }
    let names: Vec<String> = apis.iter().map(|(api, _)| format!("ApiKey::{}", api.name)).collect();
    let _ = writeln!(
        out,
        "}}\n\nimpl ApiKey {{\n/// All of them, by key.\npub const ALL: [ApiKey; {}] = [{}];\n",
        names.len(),
        names.join(", ")
    );
    out += "/// The API of this key, if a schema describes it.\n\
            pub const fn from_code(key: i16) -> Option<ApiKey> {\nSome(match key {\n";
    for (api, _) in apis {
        let _ = writeln!(out, "{} => ApiKey::{},", api.key, api.name);
    }
    out += "_ => return None,\n})\n}\n\n";
    let name = arms(apis, |api, _| format!("{:?}", api.name));
    let _ = write!(
        out,
        "/// Kafka's name of the API.\npub const fn name(self) -> &'static str {{\nmatch self {{\n{name}}}\n}}\n\n"
    );
    let versions = arms(apis, |_, file| request(file).map(|m| range(m.root.versions)).unwrap_or_default());
    let _ = write!(
        out,
        "/// The versions that can be read and written.\npub const fn versions(self) -> VersionRange {{\nmatch self {{\n{versions}}}\n}}\n\n"
    );
    let special: String = apis
        .iter()
        .filter_map(|(api, _)| api.advertised.map(|versions| (api, versions)))
        .map(|(api, v)| format!("ApiKey::{} => {},\n", api.name, range(v)))
        .collect();
    let _ = write!(
        out,
        "/// The versions that Kafka 4.3 says it has on a broker's listener. Produce begins at 0, because librdkafka\n\
         /// needs it to (KAFKA-18659), though versions 0 to 2 are refused.\n\
         pub const fn advertised(self) -> VersionRange {{\nmatch self {{\n{special}_ => self.versions(),\n}}\n}}\n\n"
    );
    let flexible = arms(apis, |_, file| format!("{:?}", request(file).and_then(|m| m.flexible)));
    let _ = write!(
        out,
        "/// The first version with compact lengths and tagged fields (KIP-482).\n\
         pub const fn flexible_since(self) -> Option<i16> {{\nmatch self {{\n{flexible}}}\n}}\n}}\n\n"
    );
    out
}

fn messages(apis: &[(&Api, &File)], kind: Kind) -> String {
    // Kafka reads a request and does not look behind it; librdkafka's Metadata 13 of all topics has three bytes too many.
    let (name, doc, new, reads, finish) = match kind {
        Kind::Request => {
            let reads = "at the start of `body`, which is what follows the header. What is behind it is left out, as in Kafka.";
            ("Request", "A request of any API.", "for_request", reads, "")
        }
        _ => {
            let reads = "that must fill `body`, which is what follows the header.";
            ("Response", "A response of any API.", "new", reads, "r.finish()?;\n")
        }
    };
    let mut out = format!("/// {doc}\n#[derive(Clone, Debug, PartialEq, Eq)]\npub enum {name} {{\n");
    for (api, file) in apis {
        let _ = writeln!(out, "/// {}.\n{}({}::{name}),", api.name, api.name, file.module);
    }
    let lower = name.to_lowercase();
    let decode =
        arms(apis, |api, file| format!("{name}::{}({}::{name}::decode(r, version)?)", api.name, file.module));
    let keys: String =
        apis.iter().map(|(api, _)| format!("{name}::{}(_) => ApiKey::{},\n", api.name, api.name)).collect();
    let encode: String =
        apis.iter().map(|(api, _)| format!("{name}::{}(m) => m.encode(w, version),\n", api.name)).collect();
    let _ = write!(
        out,
        "}}\n\nimpl {name} {{\n\
         /// Reads a {lower} {reads}\n\
         pub fn decode(key: ApiKey, version: i16, body: Bytes) -> Result<Self, DecodeError> {{\n\
         if !key.versions().contains(version) {{\nreturn Err(DecodeError::UnsupportedVersion {{ api: key, version }});\n}}\n\
         let mut reader = Reader::{new}(body);\nlet r = &mut reader;\n\
         let {lower} = match key {{\n{decode}}};\n{finish}Ok({lower})\n}}\n\n\
         /// Writes the {lower} without its header; the writer keeps what was wrong.\n\
         pub fn encode(&self, w: &mut Writer, version: i16) {{\nmatch self {{\n{encode}}}\n}}\n\n\
         /// The API of the {lower}.\n\
         pub const fn api_key(&self) -> ApiKey {{\nmatch self {{\n{keys}}}\n}}\n}}\n\n"
    );
    for (api, file) in apis {
        let _ = write!(
            out,
            "impl From<{m}::{name}> for {name} {{\nfn from({lower}: {m}::{name}) -> Self {{\n{name}::{}({lower})\n}}\n}}\n\n",
            api.name,
            m = file.module
        );
    }
    out
}

/// The enum over the messages of a file that have keys.
pub fn records(file: &File, name: &str) -> String {
    let keyed: Vec<(&Message, i16)> =
        file.messages.iter().filter_map(|m| m.key.map(|key| (m, key))).collect();
    let mut out = format!(
        "/// Any of the records of this module.\n#[derive(Clone, Debug, PartialEq, Eq)]\npub enum {name} {{\n"
    );
    let (mut decode, mut keys, mut encode, mut names, mut versions, mut from) =
        (String::new(), String::new(), String::new(), String::new(), String::new(), String::new());
    for (message, key) in keyed {
        let m = &message.name;
        let _ = writeln!(out, "/// Key {key}.\n{m}({m}),");
        let _ = writeln!(decode, "{key} => {name}::{m}({m}::decode(r, version)?),");
        let _ = writeln!(keys, "{name}::{m}(_) => {key},");
        let _ = writeln!(names, "{name}::{m}(_) => {m:?},");
        let _ = writeln!(versions, "{name}::{m}(_) => {m}::VERSIONS,");
        let _ = writeln!(encode, "{name}::{m}(record) => record.encode(w, version),");
        let _ = write!(
            from,
            "impl From<{m}> for {name} {{\nfn from(record: {m}) -> Self {{\n{name}::{m}(record)\n}}\n}}\n\n"
        );
    }
    let _ = write!(
        out,
        "}}\n\nimpl {name} {{\n/// Reads the record of this key and version; `None` if no schema has the key.\n\
         pub fn decode(key: i16, version: i16, r: &mut Reader) -> Result<Option<Self>, DecodeError> {{\n\
         Ok(Some(match key {{\n{decode}_ => return Ok(None),\n}}))\n}}\n\n\
         /// Writes the record; the writer keeps what was wrong.\n\
         pub fn encode(&self, w: &mut Writer, version: i16) {{\nmatch self {{\n{encode}}}\n}}\n\n\
         /// The key that says which record it is.\npub const fn key(&self) -> i16 {{\nmatch self {{\n{keys}}}\n}}\n\n\
         /// The name in the schema.\npub const fn name(&self) -> &'static str {{\nmatch self {{\n{names}}}\n}}\n\n\
         /// The versions that can be read and written.\npub const fn versions(&self) -> VersionRange {{\nmatch self {{\n{versions}}}\n}}\n}}\n\n{from}"
    );
    out
}
