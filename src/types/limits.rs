//! Every bound of the system in one place. A full queue's policy is stated beside its limit.

/// Longest name a user may choose, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// What makes a channel's name the name of its dead-letter channel.
pub const DEAD_LETTER_SUFFIX: &str = ".dead";

/// Dead letters kept in one dead-letter channel until somebody replays or drops them. One more pushes
/// out the oldest: it is counted (`pushed_out`), and for durable proxies of that channel that still
/// wait for it it ends as `discarded`. To refuse it would block the proxy that gave it up.
pub const DEAD_LETTERS_MAX: u64 = 100_000;
/// Bytes of their events; whichever limit is reached first counts.
pub const DEAD_LETTER_BYTES_MAX: u64 = 1 << 30;
/// Dead letters that one command may name, each range counted in full. The asker splits.
pub const LETTERS_PER_COMMAND_MAX: u64 = 1_000;
/// Longest reason kept with a dead letter, in bytes; longer ones are cut.
pub const DEAD_LETTER_REASON_BYTES_MAX: usize = 256;
/// Delivery attempts that one command may count.
pub const ATTEMPTS_PER_COMMAND_MAX: u64 = 65_536;

/// Largest event (header and body) accepted by default, in bytes.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// Largest event a configuration may allow, in bytes.
pub const EVENT_BYTES_CEILING: usize = 8 << 20;
/// Largest header section (names, variable header, fields) of an event, in bytes.
pub const EVENT_HEADER_BYTES_MAX: usize = 64 << 10;

/// Longest domain or type of an event, and of a pattern of types, in bytes. An event with a longer one
/// is refused as malformed.
pub const TYPE_NAME_BYTES_MAX: usize = 256;
/// Types that the retained events of a channel may have, beside none. For one more history gives way;
/// where proxies wait for events of all of them it is refused with `too_many_types`, retryable. Dead
/// letters are not.
pub const TYPES_PER_CHANNEL_MAX: usize = 10_000;
/// Patterns that a proxy, an admin or a plain subscriber may have. A change to more is refused.
pub const PATTERNS_MAX: usize = 256;

/// Largest frame body on a client or peer connection, in bytes: an event at the ceiling with its
/// surroundings. A larger announced length closes the connection before anything is read.
pub const FRAME_BYTES_MAX: usize = EVENT_BYTES_CEILING + (64 << 10);
/// Largest frame body between members, in bytes: the largest log entry, or several small ones.
pub const PEER_FRAME_BYTES_MAX: usize = FRAME_BYTES_MAX + (8 << 20);
/// Most events in one publish or deliver frame. The sender splits.
pub const FRAME_EVENTS_MAX: usize = 4096;
/// Bytes of event data after which a sender closes a batched frame.
pub const FRAME_BYTES_TARGET: usize = 256 << 10;

/// Events one lane may have in flight (sent, not answered). The supplier waits; a frame beyond it
/// is refused with `overloaded`. The machine remembers at least as many results per lane.
pub const LANE_IN_FLIGHT_MAX: usize = 8192;
/// Lanes in a cluster. Opening one more is refused with `too_many_lanes`.
pub const LANES_MAX: usize = 100_000;
/// An unused lane expires after this long, in milliseconds (a replicated fact).
pub const LANE_IDLE_MS: u64 = 24 * 3600 * 1000;

/// While more bytes than this wait for a log entry no supplier is polled …
pub const POLL_WAITING_BYTES_MAX: usize = 2 * BATCH_BYTES_TARGET;
/// … and one that may not be polled now is looked at again after this long, in milliseconds.
pub const POLL_RETRY_MS: u64 = 20;

/// Keys of a channel's latest events by which repeats are told. Beyond it the oldest are forgotten,
/// also within the channel's `dedup_window`: a later repeat of one of those is a new event.
pub const DEDUP_KEYS_MAX: usize = 10_000;

/// Channels in a cluster. Creating one more is refused with `too_many_channels`.
pub const CHANNELS_MAX: usize = 10_000;
/// Durable proxies of one channel. Creating one more is refused with `too_many_proxies`.
pub const PROXIES_PER_CHANNEL_MAX: usize = 1_000;
/// Consumer admins of one channel, the default one included. Creating one more is refused with
/// `too_many_admins`.
pub const ADMINS_PER_CHANNEL_MAX: usize = 100;

/// Bytes of commands in one log entry; a single command may exceed it.
pub const BATCH_BYTES_TARGET: usize = 512 << 10;
/// Commands in one log entry.
pub const BATCH_COMMANDS_MAX: usize = 4096;
/// Log entries proposed and not yet applied. While this many are on the way the next one fills.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 4;
/// Bytes of commands that may wait for a log entry. Beyond it a command is refused with
/// `overloaded`, retryable.
pub const INTAKE_BYTES_MAX: usize = 64 << 20;
/// Bytes a source may add to log entries in one turn before the next source has its turn.
pub const INTAKE_QUANTUM_BYTES: usize = 16 << 10;
/// Lanes of which is told how long they waited for a turn; beyond it the oldest are forgotten.
pub const INTAKE_LANES_TOLD_MAX: usize = 4_096;
/// What a waiting command is charged beyond its own bytes.
pub const INTAKE_ITEM_BYTES: usize = 64;

/// Client connections of one node. One more is answered `overloaded` and closed.
pub const SESSIONS_MAX: usize = 4096;
/// Connections to the health and metrics port. More wait to be accepted.
pub const HTTP_CONNECTIONS_MAX: usize = 64;
/// Lanes open on one session. One more is refused with `too_many_lanes`.
pub const LANES_PER_SESSION_MAX: usize = 4096;
/// Bytes of publishes of one session that wait for their answer. While there are more, nothing is
/// read from the client.
pub const SESSION_PUBLISH_BYTES_MAX: usize = 16 << 20;
/// A client that takes no byte for this long, in milliseconds, is given up.
pub const SESSION_STALL_MS: u64 = 60_000;
/// How long the last words to a client may take, in milliseconds.
pub const SESSION_FAREWELL_MS: u64 = 1_000;
/// Requests of one admin connection that are worked on at a time; more wait.
pub const ADMIN_REQUESTS_MAX: usize = 32;
/// Consumers attached through one session.
pub const CONSUMERS_PER_SESSION_MAX: usize = 1024;
/// Frames waiting to be written to one client. A client that does not read gets no more
/// deliveries (its credit ends); replies beyond the limit close the session.
pub const SESSION_FRAMES_MAX: usize = 256;
/// Largest credit (events in flight) that a consumer may ask for.
pub const CREDIT_EVENTS_MAX: u32 = 65_536;
/// Largest credit in bytes that a consumer may ask for.
pub const CREDIT_BYTES_MAX: u64 = 64 << 20;

/// Default history of a channel: events kept for resume although everybody has settled them.
pub const HISTORY_EVENTS: u64 = 10_000;
/// Default history of a channel in bytes. The smaller of the two limits counts.
pub const HISTORY_BYTES: u64 = 16 << 20;
/// Default cap on pending bytes of a channel. Beyond it publishes are refused (`channel_full`).
pub const CHANNEL_BYTES_MAX: u64 = 4 << 30;

/// Pending bytes of a best-effort channel, and those of its history, which are in the leader's
/// memory, whatever its properties say. Beyond it publishes are refused (`channel_full`).
pub const BEST_EFFORT_BYTES_MAX: u64 = 64 << 20;
/// Pending events of a best-effort channel: small ones take more memory than their bytes. Beyond it
/// publishes are refused (`channel_full`).
pub const BEST_EFFORT_EVENTS_MAX: u64 = 262_144;
/// Memory for the payloads of all best-effort channels. Beyond it publishes are refused
/// (`overloaded`).
pub const BEST_EFFORT_MEMORY_BYTES: u64 = 512 << 20;
/// What a payload in memory costs besides its bytes, about.
pub const BEST_EFFORT_EVENT_OVERHEAD: u64 = 160;

/// Default lease of a delivery in milliseconds: not settled by then, it is delivered again.
pub const ACK_WAIT_MS: u64 = 30_000;
/// How long a new leader waits for the holder of an exclusive proxy, from when somebody else is there
/// to take its place, in milliseconds.
pub const HOLDER_RETURN_MS: u64 = 2_000;
/// Default limit of unsettled deliveries per proxy.
pub const PROXY_IN_FLIGHT: u32 = 32_768;
/// Longest delay that a nack may ask for, in milliseconds.
pub const NACK_DELAY_MS_MAX: u64 = 3_600_000;
/// Most events that one settlement may name, each range counted in full. The sender splits.
pub const SETTLE_EVENTS_MAX: u64 = 262_144;
/// Requests of sessions that may wait for the delivery task. Beyond it sessions wait.
pub const DELIVERY_REQUESTS_MAX: usize = 4096;
/// An event whose payload cannot be read is tried again after this long, in milliseconds.
pub const UNREADABLE_RETRY_MS: u64 = 5_000;
/// Damaged events that a member may ask another for at once. More are refused; the asker splits.
pub const FETCH_KEYS_MAX: usize = 1024;
/// Bytes of events after which an answer to such a question ends; it holds one at least. The asker
/// asks again for the rest.
pub const FETCH_BYTES_MAX: usize = 4 << 20;
/// Events of a snapshot that its receiver asks for at once, and …
pub const SNAPSHOT_KEYS_MAX: u32 = 4096;
/// … bytes in one piece of it. The next one is asked for when this one is stored.
pub const SNAPSHOT_PIECE_BYTES: usize = 256 << 10;
/// Bytes of a snapshot sent in a second, at most: suppliers are not to notice much of it.
pub const SNAPSHOT_BYTES_PER_S: u64 = 32 << 20;
/// What follows a snapshot that is being sent stays in the log until so many times the bytes were
/// applied after which a snapshot is due. Beyond it the follower may need another snapshot, of which it
/// has all but what is new. A follower that lacks more than this is not sent entries any more, but a
/// snapshot: else one that is slow would fill the leader's disk.
pub const SENDING_LOGS_MAX: u64 = 16;
/// A snapshot is received only while the disk has this much room: the log needs some, too. The
/// sender is told, and tries again.
pub const SNAPSHOT_FREE_BYTES_MIN: u64 = 2 * SEGMENT_BYTES_TARGET as u64;
/// A damaged file that could not be repaired is tried again after this long, in milliseconds.
pub const REPAIR_RETRY_MS: u64 = 5_000;
/// Bytes that the background scrub reads in a second, and …
pub const SCRUB_BYTES_PER_S: u64 = 1 << 20;
/// … its pause between the end of one round over the disk and the next, in milliseconds.
pub const SCRUB_PAUSE_MS: u64 = 3_600_000;
/// How often the leader looks for idle lanes, in milliseconds.
pub const LANE_SWEEP_MS: u64 = 60_000;
/// Lanes given up by one command. The rest waits for the next sweep.
pub const LANE_SWEEP_MAX: usize = 1_000;
/// How often the leader looks for channels with history that is too old, in milliseconds: so much
/// longer it may stay where nothing happens.
pub const CHANNEL_SWEEP_MS: u64 = 5_000;
/// Proxies marked as active, or deleted for want of a client, by one command. The rest waits likewise.
pub const PROXY_SWEEP_MAX: usize = 1_000;
/// Channels trimmed by one command. The rest waits for the next sweep.
pub const CHANNEL_SWEEP_MAX: usize = 1_000;
/// Pull requests one consumer may have waiting. One more is refused with `overloaded`.
pub const PULLS_PER_CONSUMER_MAX: usize = 64;
/// Separate ranges of settlements that one proxy may have on the way to the log. Beyond it the
/// proxy delivers nothing new until some are confirmed. This many, and one for each event that the
/// proxy may have in flight, wait to be proposed again after a refusal; further settlements are
/// refused with `overloaded`.
pub const SETTLING_RANGES_MAX: usize = 4096;
/// A verdict that was refused for now is proposed again after this long, in milliseconds; each
/// further refusal doubles the pause …
pub const VERDICT_PAUSE_MS: u64 = 10;
/// … up to this.
pub const VERDICT_PAUSE_MS_MAX: u64 = 500;
/// What a proxy does not want is settled together so long after it was accepted at the latest, in
/// milliseconds; …
pub const FILTER_PAUSE_MS: u64 = 250;
/// … or when so many ranges of it wait.
pub const FILTER_RANGES_MAX: usize = 1024;
/// Deliveries handed out by one round of dispatch; the rest follows in the next round.
pub const DISPATCH_EVENTS_MAX: usize = 16_384;
/// Deliveries of one proxy or volatile consumer before the next has its turn.
pub const DISPATCH_TURN_EVENTS: usize = 1024;
/// Longest reason kept beside a dead letter, in bytes; longer ones are cut.
pub const REASON_BYTES_MAX: usize = 512;
/// Longest wait of a pull request, in milliseconds.
pub const PULL_WAIT_MS_MAX: u64 = 60_000;

/// Bytes of newest log entries kept in memory; older ones are read back from disk.
pub const LOG_TAIL_BYTES: usize = 8 << 20;
/// Largest body of one packed log record. Seventeen records must stay below a quarter of a
/// database segment (8 MiB), else the database moves them to files that it never syncs.
pub const LOG_RECORD_BYTES_MAX: usize = 96 << 10;
/// Bytes after which the log goes on in a fresh database. What a database has taken stays in memory
/// until it is closed: sled evicts from 256 shards, and few of them ever hold more than one page.
/// A little less than two of its segments (8 MiB), which are on the disk as a whole.
pub const LOG_DATABASE_BYTES: u64 = 14 << 20;
/// Largest ballast that a configuration may ask for, in bytes.
pub const BALLAST_BYTES_MAX: u64 = 1 << 30;
/// Room without which a node does not open its data directory, in bytes: for a fresh log database
/// and what is small. As much is kept for the log when it is judged whether a disk is short.
pub const ROOM_TO_OPEN_BYTES: u64 = 32 << 20;
/// Largest payload of a register (vote, marks, identity), in bytes.
pub const REGISTER_BYTES_MAX: usize = 4 << 10;
/// Bytes of events gathered, sorted and written as one segment of the event store.
pub const SEGMENT_BYTES_TARGET: usize = 8 << 20;
/// Bytes of events in one block of a segment; a larger event has a block of its own.
pub const BLOCK_BYTES_MAX: usize = 16 << 10;
/// Blocks of segments kept in memory, in bytes.
pub const BLOCK_CACHE_BYTES: usize = 4 << 20;

/// Largest frame body before the handshake is done, in bytes. A larger one closes the connection.
pub const HANDSHAKE_BYTES_MAX: usize = 4 << 10;
/// Longest token in a handshake, in bytes. A longer one is refused as malformed.
pub const TOKEN_BYTES_MAX: usize = 256;
/// Longest name a peer may give itself in a handshake (it only appears in logs), in bytes.
pub const PEER_NAME_BYTES_MAX: usize = 128;
/// Largest message without event data, in bytes; it bounds what decoding one can allocate. The
/// sender of a settlement splits; a larger one is refused as malformed.
pub const MESSAGE_HEAD_BYTES_MAX: usize = 256 << 10;
/// Backups under way on one node, each of which holds on to a snapshot. One more is refused with
/// `overloaded`.
pub const BACKUPS_MAX: usize = 4;
/// A backup that nobody asked for since so long, in milliseconds, is given up.
pub const BACKUP_IDLE_MS: u64 = 60_000;
/// Bytes of a file in one piece of a backup.
pub const BACKUP_PIECE_BYTES: usize = 1 << 20;

/// Largest admin request or answer, in bytes. A larger one closes the admin connection.
pub const ADMIN_BYTES_MAX: usize = 32 << 20;
