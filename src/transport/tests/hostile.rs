//! Damaged, oversized, truncated and foreign bytes end a stream with an error that says so.

use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, duplex};

use super::{bytes_of, frame, within};
use crate::transport::{Frame, FrameError, FrameReader};

const MAX: usize = 8 << 20;

/// Everything a reader makes of these bytes, and the bytes it holds afterwards.
async fn read_all(bytes: &[u8], max: usize) -> (Vec<Frame>, Result<(), FrameError>, usize) {
    let (mut a, b) = duplex(bytes.len().max(1));
    a.write_all(bytes).await.unwrap();
    drop(a);
    let mut reader = FrameReader::new(b, max);
    let mut frames = Vec::new();
    let end = loop {
        match within(reader.read()).await {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    (frames, end, reader.into_parts().1.capacity())
}

#[tokio::test]
async fn every_truncation_is_noticed() {
    let whole = [bytes_of(&frame(1, "one")), bytes_of(&frame(2, "two"))].concat();
    for cut in 0..whole.len() {
        let (frames, end, _) = read_all(&whole[..cut], MAX).await;
        assert_eq!(frames.len(), cut / 15);
        match (cut % 15, end) {
            (0, Ok(())) => {}
            (have, Err(FrameError::Truncated { have: said, need })) => {
                assert_eq!((have, if have < 12 { 12 } else { 15 }), (said, need));
            }
            (_, end) => panic!("cut at {cut}: {end:?}"),
        }
    }
}

#[tokio::test]
async fn every_flipped_bit_is_noticed() {
    let good = bytes_of(&frame(5, "some body"));
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let (frames, end, _) = read_all(&bad, 64).await;
        assert!(frames.is_empty(), "bit {bit} slipped through");
        let said = end.unwrap_err();
        match bit / 8 {
            0 if bit % 8 < 6 => assert!(!matches!(said, FrameError::Oversized { .. }), "{said}"),
            0..4 => assert!(matches!(said, FrameError::Oversized { .. }), "{said}"),
            _ => assert!(matches!(said, FrameError::Checksum { .. }), "{said}"),
        }
    }
}

#[tokio::test]
async fn an_answer_in_http_is_known_as_such() {
    let (_, end, _) = read_all(b"HTTP/1.1 400 Bad Request\r\n\r\n", MAX).await;
    assert!(matches!(end, Err(FrameError::Http)), "{end:?}");
}

#[tokio::test]
async fn the_reserved_field_must_be_zero() {
    let mut bytes = bytes_of(&frame(5, "x"));
    bytes[10] = 1;
    let crc = crc32fast::hash(&bytes[8..]).to_le_bytes();
    bytes[4..8].copy_from_slice(&crc);
    let (_, end, _) = read_all(&bytes, MAX).await;
    assert!(matches!(end, Err(FrameError::Reserved { kind: 5, found: 1 })));
}

#[tokio::test]
async fn other_protocols_are_told_what_this_is() {
    for greeting in ["GET / HTTP/1.1\r\n\r\n", "SSH-2.0-OpenSSH_9\r\n", "\u{16}\u{3}\u{1}hello TLS"]
    {
        let (_, end, _) = read_all(greeting.as_bytes(), MAX).await;
        let said = end.unwrap_err().to_string();
        assert!(said.contains("speaks the Aqueduct protocol"), "{said}");
    }
}

/// Announcing much costs the announcer nothing, so it must not cost us anything either.
#[tokio::test]
async fn memory_follows_what_arrives() {
    let mut bytes = bytes_of(&frame(5, vec![0; 100]));
    bytes[..4].copy_from_slice(&(MAX as u32).to_le_bytes());
    let (_, end, held) = read_all(&bytes, MAX).await;
    assert!(matches!(end, Err(FrameError::Truncated { have: 112, need }) if need == MAX + 12));
    assert!(held < 64 << 10, "{held} bytes held for 112 received");
}

proptest! {
    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200), small in any::<bool>()) {
        let mut bytes = noise;
        if small && bytes.len() > 3 {
            // Lengths that fit, so that the checksum is reached.
            bytes[1..4].fill(0);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (frames, end, _) = runtime.block_on(read_all(&bytes, 256));
        prop_assert!(frames.is_empty());
        prop_assert!(bytes.is_empty() == end.is_ok());
    }
}
