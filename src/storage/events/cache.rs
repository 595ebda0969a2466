//! The blocks read last.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::types::limits::BLOCK_CACHE_BYTES;

/// Id of a segment and offset of the block.
type Place = (u64, u64);

/// Recently used blocks, the latest first, up to [`BLOCK_CACHE_BYTES`].
#[derive(Debug, Default)]
pub struct BlockCache {
    blocks: VecDeque<(Place, Bytes)>,
    bytes: usize,
}

impl BlockCache {
    /// The block at a place, if it is here.
    pub fn get(&mut self, place: Place) -> Option<Bytes> {
        let found = self.blocks.iter().position(|(at, _)| *at == place)?;
        if found > 0 {
            let block = self.blocks.remove(found)?;
            self.blocks.push_front(block);
        }
        self.blocks.front().map(|(_, bytes)| bytes.clone())
    }

    /// Keeps a block, at the cost of those not used for longest.
    pub fn put(&mut self, place: Place, bytes: Bytes) {
        self.bytes += bytes.len();
        self.blocks.push_front((place, bytes));
        while self.bytes > BLOCK_CACHE_BYTES && self.blocks.len() > 1 {
            self.bytes -= self.blocks.pop_back().map_or(0, |(_, bytes)| bytes.len());
        }
    }
}
