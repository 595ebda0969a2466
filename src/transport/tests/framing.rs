//! What is written comes back, whatever the pieces, the pauses and the limits.

use bytes::Bytes;
use futures::FutureExt;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, duplex};

use super::{bytes_of, frame, within};
use crate::transport::{FrameError, FrameOut, FrameReader, FrameWriter};

const MAX: usize = 1 << 20;

#[test]
fn golden_bytes() {
    let frame = FrameOut { kind: 0x1f, flags: 2, parts: vec!["a".into(), "bc".into()] };
    let crc = crc32fast::hash(b"\x1f\x02\0\0abc").to_le_bytes();
    assert_eq!(bytes_of(&frame), [&[3, 0, 0, 0], &crc[..], b"\x1f\x02\0\0abc"].concat());
}

/// The example frame in the protocol's document is what the code writes.
#[test]
fn the_document_shows_this_frame() {
    let document = include_str!("../../../docs/PROTOCOL.md");
    let hex: Vec<_> = bytes_of(&frame(0x1f, vec![7])).iter().map(|b| format!("{b:02x}")).collect();
    let line = format!("| `frame` | `{}` |", hex.join(" "));
    assert!(document.contains(&line), "docs/PROTOCOL.md lacks: {line}");
}

#[tokio::test]
async fn a_burst_is_taken_without_waiting() {
    let (a, b) = duplex(MAX);
    let (mut writer, mut reader) = (FrameWriter::new(a, MAX), FrameReader::new(b, MAX));
    writer.write((0..100).map(|i| frame(i, vec![i; 9]))).await.unwrap();
    let first = within(reader.read()).await.unwrap().unwrap();
    assert_eq!((first.kind, &first.body[..]), (0, &[0; 9][..]));
    for i in 1..100 {
        let next = reader.buffered().unwrap().expect("read already");
        assert_eq!((next.kind, &next.body[..]), (i, &[i; 9][..]));
    }
    assert!(reader.buffered().unwrap().is_none());
    drop(writer);
    assert!(within(reader.read()).await.unwrap().is_none(), "a clean end");
}

#[tokio::test]
async fn a_large_body_arrives_in_little_pieces() {
    let (a, b) = duplex(1000);
    let (mut writer, mut reader) = (FrameWriter::new(a, MAX), FrameReader::new(b, MAX));
    let body = Bytes::from((0..MAX).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>());
    let sent = writer.write([frame(3, body.clone())]);
    let (sent, got) = within(async { tokio::join!(sent, reader.read()) }).await;
    sent.unwrap();
    assert_eq!(got.unwrap().unwrap().body, body);
}

/// Dropping a read or a flush half way loses and repeats nothing.
#[tokio::test]
async fn reads_and_flushes_can_be_cancelled() {
    let (a, b) = duplex(7);
    let (mut writer, mut reader) = (FrameWriter::new(a, MAX), FrameReader::new(b, MAX));
    for i in 0..20 {
        writer.feed(FrameOut::new(i, vec![vec![i; 10].into(), vec![i; 5000].into()])).unwrap();
    }
    let mut got = Vec::new();
    while got.len() < 20 {
        // Each future is polled once, then dropped.
        let _ = writer.flush().now_or_never();
        if let Some(frame) = reader.read().now_or_never() {
            got.push(frame.unwrap().unwrap());
        }
        // Refills tokio's cooperative budget; without it the pipe would claim to be busy.
        tokio::task::yield_now().await;
    }
    assert_eq!(writer.pending_bytes(), 0);
    for (i, frame) in got.iter().enumerate() {
        assert_eq!((frame.kind as usize, &frame.body[..]), (i, &vec![i as u8; 5010][..]));
    }
}

#[tokio::test]
async fn a_sender_refuses_what_is_too_large_and_goes_on() {
    let (a, b) = duplex(MAX);
    let (mut writer, mut reader) = (FrameWriter::new(a, 10), FrameReader::new(b, MAX));
    let refused = writer.feed(frame(1, vec![0; 11])).unwrap_err();
    assert!(matches!(refused, FrameError::Oversized { bytes: 11, max: 10 }));
    writer.set_frame_bytes_max(11);
    writer.write([frame(2, vec![0; 11])]).await.unwrap();
    assert_eq!(within(reader.read()).await.unwrap().unwrap().kind, 2);
}

fn frames() -> impl Strategy<Value = Vec<FrameOut>> {
    let size = prop_oneof![8 => 0usize..40, 1 => 4000usize..20_000];
    let part = (size, any::<u8>()).prop_map(|(size, fill)| Bytes::from(vec![fill; size]));
    let frame = (any::<u8>(), any::<u8>(), prop::collection::vec(part, 0..4))
        .prop_map(|(kind, flags, parts)| FrameOut { kind, flags, parts });
    prop::collection::vec(frame, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn frames_survive_any_pipe(frames in frames(), pipe in 1usize..5000) {
        let (a, b) = duplex(pipe);
        let (mut writer, mut reader) = (FrameWriter::new(a, MAX), FrameReader::new(b, MAX));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let got = runtime.block_on(async {
            let send = async {
                writer.write(frames.clone()).await.unwrap();
                writer.close().await.unwrap();
            };
            let receive = async {
                let mut got = Vec::new();
                while let Some(frame) = reader.read().await.unwrap() {
                    got.push((frame.kind, frame.flags, frame.body));
                }
                got
            };
            tokio::join!(send, receive).1
        });
        let sent: Vec<_> =
            frames.iter().map(|f| (f.kind, f.flags, Bytes::from(f.parts.concat()))).collect();
        prop_assert_eq!(got, sent);
    }
}

/// The writer hands large parts on as they are, and gathers small ones.
#[tokio::test]
async fn large_parts_are_not_copied() {
    let mut writer = FrameWriter::new(Vec::new(), MAX);
    let large = Bytes::from(vec![1; 10_000]);
    writer.feed(FrameOut::new(1, vec!["x".into(), large.clone(), "y".into()])).unwrap();
    writer.feed(frame(2, "z")).unwrap();
    assert!(!large.is_unique(), "shared with the queue");
    writer.flush().await.unwrap();
    assert!(large.is_unique(), "given back");
    let (sink, _) = writer.into_parts();
    let whole = [
        bytes_of(&FrameOut::new(1, vec!["x".into(), large, "y".into()])),
        bytes_of(&frame(2, "z")),
    ];
    assert_eq!(sink, whole.concat());
}

/// Received bodies are slices of the read buffer.
#[tokio::test]
async fn received_bodies_are_not_copied() {
    let (mut a, b) = duplex(MAX);
    let two = [bytes_of(&frame(1, "first")), bytes_of(&frame(2, "second"))].concat();
    a.write_all(&two).await.unwrap();
    let mut reader = FrameReader::new(b, MAX);
    let first = within(reader.read()).await.unwrap().unwrap().body;
    let second = within(reader.read()).await.unwrap().unwrap().body;
    let distance = second.as_ptr() as usize - first.as_ptr() as usize;
    assert_eq!(distance, first.len() + crate::transport::FRAME_HEADER_BYTES);
}
