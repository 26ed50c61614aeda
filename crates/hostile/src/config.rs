//! Configuration: `server.properties`, `--set` values, and the values of topic configs.

use moldau_base::config::{broker_key, properties, topic_key};
use moldau_node::config::{Machine, Origin, Setting, build};

use crate::{Memory, Target};

/// A `server.properties` of any bytes.
pub const CONFIG: Target = Target {
    name: "config",
    proves: "a server.properties of any bytes is read or refused, so is every value in it, and a value that is accepted reads back",
    run: config,
    memory: Memory { base: 1 << 20, per_byte: 1024 },
    per_mille: 50,
};

/// Properties of a file that are looked at.
const LOOKED_AT: usize = 20;

fn config(input: &[u8]) {
    let Ok(read) = properties::parse(input) else { return };
    let mut settings = Vec::new();
    for property in read.into_iter().take(LOOKED_AT) {
        for def in [broker_key(&property.key), topic_key(&property.key)].into_iter().flatten() {
            if let Ok(accepted) = def.accept(&property.value) {
                let again = def.read(&accepted.value.to_string());
                assert!(again.is_ok(), "{} of {} does not read back", accepted.value, def.name);
            }
        }
        let origin = Origin::File { path: "server.properties".to_owned(), line: property.line };
        settings.push(Setting { origin, key: property.key, value: property.value });
    }
    let machine = Machine { cores: 4, memory_bytes: 1 << 30, hostname: "host".to_owned() };
    if let Err(problems) = build(&settings, &machine) {
        assert!(!problems.0.is_empty() && !problems.to_string().is_empty(), "a refusal has a reason");
    }
}
