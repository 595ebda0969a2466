//! Reads what lies in a channel of dead letters, by name.

use aqueduct::client::{Client, SubscribeOptions};
use aqueduct::types::{Rejection, Start, limits};

use super::supplier::valid;
use crate::history::{ChannelView, Recorder, What};

/// Who reads, in histories.
const BY: &str = "coroner";

/// Whether a channel is one of dead letters, and has any.
pub fn has_any(channel: &ChannelView) -> bool {
    channel.name.ends_with(limits::DEAD_LETTER_SUFFIX) && channel.last_seq > 0
}

/// Records every dead letter in a channel that is still there, up to its end as it was seen.
pub async fn read(
    client: &Client,
    channel: &ChannelView,
    recorder: &dyn Recorder,
) -> Result<(), Rejection> {
    let options = SubscribeOptions { from: Start::All, ..SubscribeOptions::default() };
    let mut reading = client.subscribe(valid(&channel.name)?, options).await?;
    let mut seen = 0;
    while seen < channel.last_seq {
        for delivery in reading.next_batch().await? {
            seen = delivery.seq;
            if let Some(letter) = delivery.dead_letter {
                let (consumer, channel) = (letter.proxy.to_string(), letter.channel.to_string());
                recorder.record(BY, What::DeadLetter { consumer, channel, seq: letter.seq });
            }
        }
    }
    Ok(())
}
