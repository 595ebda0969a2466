//! The machine against a naive model, its codecs against damage, and scripts against their traces.

mod codec;
mod lanes;
mod model;
mod properties;
mod random;
mod scripts;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Batch, Command};
use crate::types::{Event, Header, Stamp, Tenure};

/// A block of events of these sizes.
fn block(sizes: &[u32]) -> Bytes {
    let mut block = BytesMut::new();
    for size in sizes {
        block.put_u32_le(*size);
        block.put_bytes(b'e', *size as usize);
    }
    block.freeze()
}

/// A block of events, of which those of an odd size have one of eight types, and are a little larger.
fn typed_block(sizes: &[u32]) -> Bytes {
    let mut block = BytesMut::new();
    for size in sizes {
        let header = Header { kind: format!("k{}", size / 2 % 8), ..Header::default() };
        let event = Event { header, ..Event::of_body(vec![b'e'; *size as usize]) };
        match size % 2 {
            0 => block.put_slice(&self::block(&[*size])),
            _ => {
                let bytes = event.encode().unwrap();
                block.put_u32_le(bytes.len() as u32);
                block.put_slice(bytes.as_bytes());
            }
        }
    }
    block.freeze()
}

fn batch(tenure: Tenure, stamp: Stamp, commands: Vec<Command>) -> Batch {
    Batch { tenure, stamp, commands }
}
