//! Bytes from outside cost no more memory than the limits allow, whatever they announce.
//!
//! That they are refused without a panic is tested beside the code; here an allocator counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use aqueduct::machine::{Batch, Machine};
use aqueduct::node::config;
use aqueduct::transport::FrameReader;
use aqueduct::types::limits;
use aqueduct::wire::{ClientMessage, EventsBlock, Greeting, Hello, ServerMessage};
use bytes::Bytes;
use proptest::prelude::*;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    /// Bytes allocated and not freed, and the most there ever were, since the last [`peak`] began.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // A thread that is ending allocates uncounted.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `work` held at a time.
fn peak<T>(work: impl FnOnce() -> T) -> usize {
    HELD.set((0, 0));
    drop(work());
    HELD.get().1 as usize
}

/// What decoding may cost beyond a multiple of what arrived: a message of an error, a small table.
const SMALL: usize = 16 << 10;

/// Numbers as they stand in heads: small ones, and those that announce the world.
fn number() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        prop_oneof![Just(u64::MAX), Just(1 << 62), Just(1 << 32), Just(1 << 31), Just(4096)]
            .prop_map(|number: u64| postcard::to_stdvec(&number).unwrap()),
        any::<u32>().prop_map(|number| number.to_le_bytes().to_vec()),
    ]
}

/// Bytes that look as if somebody had meant something.
fn forged() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(number(), 0..60).prop_map(|parts| parts.concat())
}

#[test]
fn the_allocator_counts() {
    assert!((1000..1100).contains(&peak(|| vec![0u8; 1000])));
    assert_eq!(peak(|| ()), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn messages(kind in 0u8..0x60, body in forged()) {
        let bytes = Bytes::from(body);
        let most = 64 * bytes.len() + SMALL;
        let held = [
            peak(|| Hello::decode(kind, bytes.clone()).is_ok()),
            peak(|| Greeting::decode(kind, bytes.clone()).is_ok()),
            peak(|| ClientMessage::decode(kind, bytes.clone()).is_ok()),
            peak(|| ServerMessage::decode(kind, bytes.clone()).is_ok()),
            peak(|| EventsBlock::check(bytes.clone(), u32::MAX, limits::EVENT_BYTES_CEILING).is_ok()),
        ];
        prop_assert!(held.iter().all(|held| *held <= most), "{held:?} of {most}");
    }

    #[test]
    fn batches_and_images(body in forged(), commands in any::<u32>()) {
        let entry = [&[0xAB, 1], &[0; 16][..], &commands.to_le_bytes(), &body].concat();
        let most = 64 * entry.len() + SMALL;
        let entry = Bytes::from(entry);
        prop_assert!(peak(|| Batch::decode(entry).is_ok()) <= most);
        // postcard reserves up to 1 MiB for a sequence before it sees that there is none; sets of
        // sequences are given what they announce, which an entry of the peer's log has bounded.
        let image = [b"AQMS\x01", &body[..]].concat();
        prop_assert!(peak(|| Machine::decode(&image).is_ok()) <= 4 << 20);
    }

    #[test]
    fn frames(announced in any::<u32>(), rest in forged()) {
        let bytes = [&announced.to_le_bytes()[..], &rest].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let most = 4 * bytes.len() + (64 << 10);
        let held = peak(|| runtime.block_on(async {
            let mut reader = FrameReader::new(&bytes[..], limits::FRAME_BYTES_MAX);
            while let Ok(Some(_)) = reader.read().await {}
        }));
        prop_assert!(held <= most, "{held} of {most}");
    }

    #[test]
    fn settings(
        keys in prop::collection::vec("[a-z_]{1,12}|data_dir|listen|join|snapshot_log_bytes|bootstrap", 0..6),
        values in prop::collection::vec(
            "[ -~]{0,20}|\"[a-z0-9:./-]{0,20}\"|\\[\"[a-z:0-9]{0,9}\"\\]|-?[0-9]{1,20}|true|\"[0-9]{1,25} ?[KMGTi]{0,2}B\"",
            6,
        ),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        noisy in any::<bool>(),
    ) {
        let mut text: Vec<u8> = keys
            .iter()
            .zip(&values)
            .flat_map(|(key, value)| format!("{key} = {value}\n").into_bytes())
            .collect();
        if noisy {
            text.extend(noise);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let flags: Vec<_> = keys.iter().zip(&values).map(|(k, v)| (k.as_str(), v.clone())).collect();
        let held = peak(|| {
            if let Ok(loaded) = config::load(Some(file.path()), [], &[]) {
                config::check(&loaded.config);
            }
            config::load(None, [], &flags).is_ok()
        });
        prop_assert!(held <= 1 << 20, "{held} bytes for {} of text", text.len());
    }
}
