//! The bytes of a log entry. Encoded once by the leader; the same on disk, on the way to followers
//! and in caches. Layout, little endian:
//!
//! ```text
//! 0  u8   magic (0xAB)
//! 1  u8   version (3)
//! 2  u64  tenure
//! 10 u64  stamp
//! 18 u32  number of commands, each:
//!    u8   tag: 0 any command but a publish, 1 publish
//!    u32  length of the body
//!    ..   tag 0: postcard of `Command`
//!         tag 1: u64 channel, u64 and u32 lane, u32 epoch, u64 first sequence, u32 count,
//!                then the block of events, raw
//! ```
//!
//! Decoding copies no event: blocks are slices of the entry.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use postcard::ser_flavors::Size;
use thiserror::Error;

use super::block::block_holds;
use super::{Batch, Command, Publish};
use crate::types::{ChannelId, LaneId, Stamp, Tenure};

const MAGIC: u8 = 0xAB;
const VERSION: u8 = 3;
const HEADER_BYTES: usize = 22;
const COMMAND_HEADER_BYTES: usize = 5;
const PUBLISH_HEADER_BYTES: usize = 36;
const TAG_OTHER: u8 = 0;
const TAG_PUBLISH: u8 = 1;

/// Why bytes are not a [`Batch`]. In a committed entry each of these means damage or a newer
/// version: the node cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    #[error("entry is cut short: {0} are missing")]
    Short(&'static str),
    #[error("entry starts with byte {0:#04x}, not with {MAGIC:#04x}: it is no batch of commands")]
    Magic(u8),
    #[error(
        "the entry has version {0}, this build reads version {VERSION}: another build wrote it; use \
         that build"
    )]
    Version(u8),
    #[error("command {0} has the unknown tag {1}: a newer build wrote it; use that build")]
    Tag(usize, u8),
    #[error("command {0} does not parse: {1}")]
    Command(usize, String),
    #[error("publish {0} does not hold exactly the {1} events it names")]
    Events(usize, u32),
    #[error("{0} bytes follow the last command")]
    Trailing(usize),
}

impl Batch {
    /// Encodes the batch into one allocation of exactly its size.
    pub fn encode(&self) -> Bytes {
        let bodies: Vec<usize> = self.commands.iter().map(body_bytes).collect();
        let total = bodies.iter().fold(HEADER_BYTES, |n, body| n + COMMAND_HEADER_BYTES + body);
        let mut out = BytesMut::with_capacity(total);
        out.put_u8(MAGIC);
        out.put_u8(VERSION);
        out.put_u64_le(self.tenure.0);
        out.put_u64_le(self.stamp.0);
        out.put_u32_le(self.commands.len() as u32);
        for (command, body) in self.commands.iter().zip(bodies) {
            out = put_command(out, command, body);
        }
        out.freeze()
    }

    /// Bytes that `command` takes in an encoded batch: what admission counts.
    pub fn command_bytes(command: &Command) -> usize {
        COMMAND_HEADER_BYTES + body_bytes(command)
    }

    /// Decodes an entry. Event blocks stay slices of `entry`.
    pub fn decode(entry: Bytes) -> Result<Batch, BatchError> {
        let mut rest = entry;
        let mut header = take(&mut rest, HEADER_BYTES, "bytes of the header")?;
        match (header.get_u8(), header.get_u8()) {
            (MAGIC, VERSION) => {}
            (MAGIC, version) => return Err(BatchError::Version(version)),
            (magic, _) => return Err(BatchError::Magic(magic)),
        }
        let tenure = Tenure(header.get_u64_le());
        let stamp = Stamp(header.get_u64_le());
        let count = header.get_u32_le() as usize;
        // A count that the bytes cannot hold must not reserve memory.
        let mut commands = Vec::with_capacity(count.min(rest.len() / COMMAND_HEADER_BYTES));
        for i in 0..count {
            commands.push(take_command(i, &mut rest)?);
        }
        if !rest.is_empty() {
            return Err(BatchError::Trailing(rest.len()));
        }
        Ok(Batch { tenure, stamp, commands })
    }
}

/// Bytes of the command's body.
fn body_bytes(command: &Command) -> usize {
    match command {
        Command::Publish(publish) => PUBLISH_HEADER_BYTES + publish.events.len(),
        // Commands of ours always serialize; `put_command` would write the same nothing.
        other => postcard::serialize_with_flavor(other, Size::default()).unwrap_or_default(),
    }
}

fn put_command(mut out: BytesMut, command: &Command, body: usize) -> BytesMut {
    let tag = if matches!(command, Command::Publish(_)) { TAG_PUBLISH } else { TAG_OTHER };
    out.put_u8(tag);
    out.put_u32_le(body as u32);
    match command {
        Command::Publish(publish) => {
            put_publish(&mut out, publish);
            out
        }
        other => {
            let end = out.len() + body;
            out.resize(end, 0);
            let start = end - body;
            // The size was measured with the same serializer, so this fills it exactly.
            let _ = postcard::to_slice(other, &mut out[start..]);
            out
        }
    }
}

fn put_publish(out: &mut BytesMut, publish: &Publish) {
    out.put_u64_le(publish.channel.0);
    out.put_u64_le(publish.lane.index);
    out.put_u32_le(publish.lane.position);
    out.put_u32_le(publish.epoch);
    out.put_u64_le(publish.first_sequence);
    out.put_u32_le(publish.count);
    out.put_slice(&publish.events);
}

fn take(rest: &mut Bytes, len: usize, what: &'static str) -> Result<Bytes, BatchError> {
    if rest.len() < len {
        return Err(BatchError::Short(what));
    }
    Ok(rest.split_to(len))
}

fn take_command(i: usize, rest: &mut Bytes) -> Result<Command, BatchError> {
    let mut header = take(rest, COMMAND_HEADER_BYTES, "bytes of a command's header")?;
    let tag = header.get_u8();
    let body = take(rest, header.get_u32_le() as usize, "bytes of a command's body")?;
    match tag {
        TAG_PUBLISH => take_publish(i, body),
        TAG_OTHER => match postcard::take_from_bytes(&body) {
            Ok((Command::Publish(_), _)) => Err(BatchError::Command(i, "misplaced publish".into())),
            Ok((command, [])) => Ok(command),
            Ok(_) => Err(BatchError::Command(i, "bytes follow it".into())),
            Err(error) => Err(BatchError::Command(i, error.to_string())),
        },
        other => Err(BatchError::Tag(i, other)),
    }
}

fn take_publish(i: usize, mut body: Bytes) -> Result<Command, BatchError> {
    let mut header = take(&mut body, PUBLISH_HEADER_BYTES, "bytes of a publish's header")?;
    let publish = Publish {
        channel: ChannelId(header.get_u64_le()),
        lane: LaneId { index: header.get_u64_le(), position: header.get_u32_le() },
        epoch: header.get_u32_le(),
        first_sequence: header.get_u64_le(),
        count: header.get_u32_le(),
        events: body,
    };
    if !block_holds(&publish.events, publish.count) {
        return Err(BatchError::Events(i, publish.count));
    }
    Ok(Command::Publish(publish))
}
