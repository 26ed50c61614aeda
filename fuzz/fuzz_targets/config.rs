//! A `server.properties` of any bytes: it is read or refused, and so is every value in it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use moldau_base::config::{broker_key, broker_keys, nearest, properties, topic_key};

fuzz_target!(|data: &[u8]| {
    let Ok(read) = properties::parse(data) else { return };
    for property in read.into_iter().take(20) {
        for def in [broker_key(&property.key), topic_key(&property.key)].into_iter().flatten() {
            if let Ok(accepted) = def.accept(&property.value) {
                let again = def.read(&accepted.value.to_string());
                assert!(again.is_ok(), "{} of {} does not read back", accepted.value, def.name);
            }
        }
        let _ = nearest(&property.key, broker_keys().map(|def| def.name));
    }
});
