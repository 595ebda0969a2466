//! The machine against a naive model, its codecs against damage, and scripts against their traces.

mod codec;
mod lanes;
mod model;
mod properties;
mod random;
mod scripts;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Batch, Command};
use crate::types::{Stamp, Tenure};

/// A block of events of these sizes.
fn block(sizes: &[u32]) -> Bytes {
    let mut block = BytesMut::new();
    for size in sizes {
        block.put_u32_le(*size);
        block.put_bytes(b'e', *size as usize);
    }
    block.freeze()
}

fn batch(tenure: Tenure, stamp: Stamp, commands: Vec<Command>) -> Batch {
    Batch { tenure, stamp, commands }
}
