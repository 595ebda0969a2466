//! The words of `dead`.

use clap::{Args, Subcommand};

use crate::types::{Name, Seq, SeqRange};

/// Events that a durable consumer gave up: after --max-deliveries, or because it said so.
#[derive(Debug, Subcommand)]
pub enum Dead {
    /// List dead letters, oldest first
    #[command(after_help = "Example:
  aqueduct dead ls orders --limit 20")]
    Ls {
        /// The channel they come from, or the dead-letter channel, CHANNEL.dead.
        channel: Name,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u64,
        /// From this sequence on.
        #[arg(long, value_name = "SEQ", default_value_t = 1)]
        from: Seq,
    },
    /// Show a dead letter with its event
    Show {
        /// The channel it comes from, or the dead-letter channel, CHANNEL.dead.
        channel: Name,
        /// Its sequence, as `dead ls` shows it.
        seq: Seq,
    },
    /// Give dead letters back to the consumer that gave them up
    #[command(
        after_help = "Each becomes a new event of the channel it comes from, in one step and \
        once, and is a letter no more. Other consumers do not see it again; with --to-all they do. \
        A letter that cannot be replayed stays, and the command exits with 3.

Examples:
  aqueduct dead replay orders 17 20..25
  aqueduct dead replay orders --all --to-all"
    )]
    Replay {
        #[command(flatten)]
        letters: Letters,
        /// To all durable consumers of the channel, not only to the one that gave it up.
        #[arg(long)]
        to_all: bool,
    },
    /// Give dead letters up for good
    #[command(after_help = "Example:
  aqueduct dead drop orders 17 20..25")]
    Drop(Letters),
}

/// Which dead letters.
#[derive(Debug, Args)]
pub struct Letters {
    /// The channel they come from, or the dead-letter channel, CHANNEL.dead.
    pub channel: Name,
    /// Their sequences, as `dead ls` shows them: 17, or 20..25 for all of these.
    #[arg(required_unless_present = "all", value_name = "SEQ", value_parser = range)]
    pub letters: Vec<SeqRange>,
    /// All that are there now.
    #[arg(long, conflicts_with = "letters")]
    pub all: bool,
}

/// A sequence, or the first and last of a range.
fn range(text: &str) -> Result<SeqRange, String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let range = first.parse().ok().zip(last.parse().ok());
    let range = range.map(|(first, last)| SeqRange { first, last });
    range
        .filter(|range| !range.is_empty())
        .ok_or_else(|| format!("'{text}' is no sequence: write 17, or 20..25 for all of these"))
}
