//! 64-bit numbers in JSON that people edit: tools that compute in floating point (jq 1.6) spoil
//! what is beyond 2^53, so that is written as a string. Both are read.

use serde::{Deserialize, Deserializer, Serializer};

/// What floating point holds exactly.
const SAFE: u64 = 1 << 53;

#[derive(Deserialize)]
#[serde(untagged, expecting = "a whole number of at most 64 bits, or a string of one")]
enum Either {
    Number(u64),
    Text(String),
}

pub fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
    if *value < SAFE { to.serialize_u64(*value) } else { to.collect_str(value) }
}

pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match Either::deserialize(from)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(|_| {
            serde::de::Error::custom(format!("'{text}' is not a whole number of 64 bits"))
        }),
    }
}
