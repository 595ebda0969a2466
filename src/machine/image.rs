//! The machine as bytes, for snapshots.
//!
//! ```text
//! 0  4    magic "AQMS"
//! 4  u8   version (4)
//! 5  u64  state hash, little endian
//! 13 ..   postcard: globals; then number and items of channels, proxies, lanes
//! ```
//!
//! Only facts are written. What is derived from them is computed anew, and the hash with it: an
//! image whose facts do not add up to its hash is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::{Channel, Lane, Machine, Proxy};
use crate::planted::{Bug, planted};
use crate::types::{ChannelId, Stamp, Tenure};

const MAGIC: &[u8; 4] = b"AQMS";
const VERSION: u8 = 4;

/// Why bytes are not an image of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImageError {
    #[error("the image is cut short or does not begin with its magic bytes")]
    Magic,
    #[error(
        "the image has version {0}, this build reads version {VERSION}: another build wrote it; use \
         that build"
    )]
    Version(u8),
    #[error("the image does not parse: {0}")]
    Parse(String),
    #[error("the image names state hash {stored:016x}, but its facts add up to {found:016x}")]
    Hash { stored: u64, found: u64 },
    #[error("the ledger of the image is wrong: {0}")]
    Ledger(String),
}

#[derive(Serialize, Deserialize)]
struct Globals {
    applied: u64,
    stamp: Stamp,
    tenure: Tenure,
    last_id: u64,
}

impl Machine {
    /// Encodes all facts.
    pub fn encode(&self) -> Vec<u8> {
        if planted(Bug::LanesNotInSnapshot) && !self.lanes.is_empty() {
            return Machine { lanes: BTreeMap::new(), ..self.clone() }.encode();
        }
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        out.extend_from_slice(&self.hash().to_le_bytes());
        let Machine { applied, stamp, tenure, last_id, .. } = *self;
        put(&mut out, &Globals { applied, stamp, tenure, last_id });
        put(&mut out, &self.channels.len());
        self.channels.values().for_each(|channel| put(&mut out, &**channel));
        put(&mut out, &self.proxies.len());
        self.proxies.values().for_each(|proxy| put(&mut out, &**proxy));
        put(&mut out, &self.lanes.len());
        self.lanes.values().for_each(|lane| put(&mut out, &**lane));
        out
    }

    /// Decodes an image; refuses one whose facts do not add up to its hash.
    pub fn decode(image: &[u8]) -> Result<Machine, ImageError> {
        let rest = image.strip_prefix(MAGIC).ok_or(ImageError::Magic)?;
        let (version, rest) = rest.split_first().ok_or(ImageError::Magic)?;
        if *version != VERSION {
            return Err(ImageError::Version(*version));
        }
        let (stored, mut rest) = rest.split_first_chunk().ok_or(ImageError::Magic)?;
        let mut machine = Machine::from_facts(&mut rest)?;
        if !rest.is_empty() {
            return Err(ImageError::Parse(format!("{} bytes follow its end", rest.len())));
        }
        machine.resum();
        let (stored, found) = (u64::from_le_bytes(*stored), machine.hash());
        if stored != found && !planted(Bug::SnapshotCrcIgnored) {
            return Err(ImageError::Hash { stored, found });
        }
        machine.derive();
        machine.check_ledger().map_err(ImageError::Ledger)?;
        Ok(machine)
    }

    fn from_facts(rest: &mut &[u8]) -> Result<Machine, ImageError> {
        let globals: Globals = take(rest)?;
        let mut machine = Machine::new();
        machine.channels.clear();
        machine.names.clear();
        machine.touched.clear();
        machine.applied = globals.applied;
        machine.stamp = globals.stamp;
        machine.tenure = globals.tenure;
        machine.last_id = globals.last_id;
        for _ in 0..take::<usize>(rest)? {
            let channel: Channel = take(rest)?;
            if !channel.is_sound() {
                return Err(ImageError::Parse(format!("channel {} is misshapen", channel.id())));
            }
            machine.channels.insert(channel.id(), Arc::new(channel));
        }
        for _ in 0..take::<usize>(rest)? {
            let proxy: Proxy = take(rest)?;
            if !proxy.is_sound() {
                return Err(ImageError::Parse(format!("proxy {} is misshapen", proxy.id())));
            }
            machine.proxies.insert(proxy.id(), Arc::new(proxy));
        }
        for _ in 0..take::<usize>(rest)? {
            let lane: Lane = take(rest)?;
            machine.lanes.insert(lane.id(), Arc::new(lane));
        }
        Ok(machine)
    }

    /// Finds what follows from the facts: names, who belongs to whom, who waits for what.
    fn derive(&mut self) {
        let names = self.channels().map(|channel| (channel.name().clone(), channel.id()));
        self.names = names.collect();
        for proxy in self.proxies.values() {
            let Some(channel) = self.channels.get_mut(&proxy.channel()) else { continue };
            let channel = Arc::make_mut(channel);
            channel.proxies.insert(proxy.name().clone(), proxy.id());
            let last = channel.next_seq().saturating_sub(1);
            for range in proxy.settled.unsettled(proxy.start_seq(), last) {
                channel.slots.wait(range);
            }
        }
        for lane in self.lanes.values() {
            if let Some(channel) = self.channels.get_mut(&lane.channel()) {
                Arc::make_mut(channel).add_lane(lane.id(), lane.name());
            }
        }
        let ids: Vec<ChannelId> = self.channels.keys().copied().collect();
        for id in ids {
            self.resolve(id);
            if let Some(channel) = self.channels.get_mut(&id) {
                Arc::make_mut(channel).slots.refind_first();
            }
        }
    }
}

fn put<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    // Facts of ours always serialize; a hole would not survive the hash at decoding.
    if let Ok(longer) = postcard::to_extend(value, std::mem::take(out)) {
        *out = longer;
    }
}

fn take<T: DeserializeOwned>(rest: &mut &[u8]) -> Result<T, ImageError> {
    let (value, after) =
        postcard::take_from_bytes(rest).map_err(|error| ImageError::Parse(error.to_string()))?;
    *rest = after;
    Ok(value)
}
