//! A relay carries everything in both directions, and ends both sides together.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{frame, within};
use crate::transport::{Reader, Side, Writer, reunite, splice, split};

const MAX: usize = 1 << 20;

type Ends = (Reader<DuplexStream>, Writer<DuplexStream>);

/// Client, the relay's two ends, and server.
fn relay() -> (Ends, Ends, Ends, Ends) {
    let ((client, near), (far, server)) = (duplex(100), duplex(100));
    (split(client, MAX), split(near, MAX), split(far, MAX), split(server, MAX))
}

#[tokio::test]
async fn bytes_read_during_the_handshake_are_carried_too() {
    let (mut client, mut near, mut far, mut server) = relay();
    client.1.write([frame(1, "hello"), frame(2, "early"), frame(3, "early")]).await.unwrap();
    assert_eq!(near.0.read().await.unwrap().unwrap().kind, 1);
    // The relay answers the client itself, and has something to say upstream, unflushed.
    near.1.feed(frame(4, "welcome")).unwrap();
    far.1.feed(frame(5, "relayed")).unwrap();
    let serve = async {
        for kind in [5, 2, 3, 6] {
            assert_eq!(server.0.read().await.unwrap().unwrap().kind, kind);
        }
        server.1.write([frame(7, vec![7; 10_000]), frame(8, "goodbye")]).await.unwrap();
        server.1.close().await.unwrap();
    };
    let consume = async {
        assert_eq!(client.0.read().await.unwrap().unwrap().kind, 4);
        client.1.write([frame(6, "late")]).await.unwrap();
        for kind in [7, 8] {
            assert_eq!(client.0.read().await.unwrap().unwrap().kind, kind);
        }
        assert!(client.0.read().await.unwrap().is_none(), "ends with the server");
    };
    let (end, ..) = within(async { tokio::join!(splice(near, far), serve, consume) }).await;
    assert_eq!(end.side, Side::B);
    assert!(end.result.is_ok());
    assert_eq!(end.bytes, [17 + 17 + 16, 12 + 10_000 + 12 + 7]);
}

#[tokio::test]
async fn the_end_of_the_client_ends_the_server_side() {
    let (client, near, far, mut server) = relay();
    drop(client);
    let (end, read) = within(async { tokio::join!(splice(near, far), server.0.read()) }).await;
    assert_eq!((end.side, end.result.is_ok()), (Side::A, true));
    assert!(read.unwrap().is_none());
}

#[tokio::test]
async fn a_failing_side_is_named() {
    let (mut client, near, far, server) = relay();
    drop(server);
    client.1.write([frame(1, "x")]).await.unwrap();
    let end = within(splice(near, far)).await;
    assert_eq!(end.side, Side::B);
}

#[tokio::test]
async fn ends_become_a_stream_again() {
    let (a, mut b) = duplex(1000);
    let (mut reader, mut writer) = split(a, MAX);
    let (mut peer_reader, mut peer_writer) = split(duplex(1).0, MAX);
    peer_writer.feed(frame(1, "unsent")).unwrap();
    assert!(peer_reader.buffered().unwrap().is_none());
    assert!(reunite(peer_reader, peer_writer).is_err(), "unsent frames would be lost");

    b.write_all(&[super::bytes_of(&frame(1, "hi")), b"raw".to_vec()].concat()).await.unwrap();
    assert_eq!(within(reader.read()).await.unwrap().unwrap().kind, 1);
    writer.flush().await.unwrap();
    let mut stream = reunite(reader, writer).unwrap();
    b.write_all(b" bytes").await.unwrap();
    stream.write_all(b"back").await.unwrap();
    let (mut forth, mut back) = ([0; 9], [0; 4]);
    within(stream.read_exact(&mut forth)).await.unwrap();
    within(b.read_exact(&mut back)).await.unwrap();
    assert_eq!((&forth, &back), (b"raw bytes", b"back"));
}
