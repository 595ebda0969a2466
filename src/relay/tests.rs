use bytes::Bytes;

use super::*;
use crate::env::{Publisher, TokioRuntime, watch};
use crate::transport::{FrameOut, Listener, MemNet, MemStream, split};
use crate::wire::Welcome;

fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        peer_addr: format!("node{id}:1"),
        client_addr: format!("node{id}:2"),
        admin_addr: format!("node{id}:3"),
    }
}

/// What node 1 knows while `leader` leads.
fn led_by(leader: Option<u64>, tenure: Option<u64>) -> Leadership {
    Leadership {
        me: NodeId(1),
        leader: leader.map(member),
        term: 1,
        tenure: tenure.map(crate::types::Tenure),
        removed: false,
    }
}

/// A relay on node 1, before it a client, behind it node 2, which answers as `leader` says.
struct Scene {
    net: MemNet,
    leadership: Publisher<Leadership>,
    client: (Reader<tokio::io::DuplexStream>, Writer<tokio::io::DuplexStream>),
    ended: tokio::task::JoinHandle<()>,
}

fn scene() -> Scene {
    let net = MemNet::new("client");
    let (leadership, watched) = watch(led_by(Some(2), None));
    let (here, there) = tokio::io::duplex(1 << 16);
    let relay = Relay {
        net: net.host("node1"),
        node: NodeId(1),
        cluster: ClusterId(7),
        token: "secret".into(),
        incarnation: 3,
    };
    let ended = tokio::spawn(async move {
        let (reader, writer) = split(there, limits::FRAME_BYTES_MAX);
        let client = (Hello::new(Service::Data, "c"), reader, writer);
        relay.carry(&TokioRuntime::new(), &watched, &member(2), client).await;
    });
    Scene { net, leadership, client: split(here, limits::FRAME_BYTES_MAX), ended }
}

/// Node 2 accepts one relayed client, checks its hello and answers it.
async fn accept(
    listener: &mut impl Listener<Stream = MemStream>,
    answer: Greeting,
) -> (Reader<MemStream>, Writer<MemStream>) {
    let (stream, _) = listener.accept().await.unwrap();
    let (mut reader, mut writer) = split(stream, limits::FRAME_BYTES_MAX);
    let frame = reader.read().await.unwrap().unwrap();
    let hello = Hello::decode(frame.kind, frame.body).unwrap();
    assert_eq!(
        (hello.service, hello.cluster, hello.node, hello.token.as_str(), hello.name.as_str()),
        (Service::RelayData, Some(ClusterId(7)), Some(NodeId(1)), "secret", "c")
    );
    writer.write([answer.encode().into()]).await.unwrap();
    (reader, writer)
}

fn welcome() -> Greeting {
    Greeting::Welcome(Welcome {
        version: 1,
        cluster: ClusterId(7),
        node: NodeId(2),
        incarnation: 1,
        leader: true,
        event_bytes_max: 1,
        lane_in_flight_max: 1,
        newest: 1,
    })
}

async fn greeting<S: ByteStream>(reader: &mut Reader<S>) -> Greeting {
    let frame = reader.read().await.unwrap().unwrap();
    Greeting::decode(frame.kind, frame.body).unwrap()
}

#[tokio::test]
async fn a_client_talks_to_the_leader_until_it_changes() {
    let mut scene = scene();
    let mut listener = scene.net.host("node2").listen("node2:1").await.unwrap();
    let (mut there, mut back) = accept(&mut listener, welcome()).await;
    assert_eq!(greeting(&mut scene.client.0).await, welcome());

    let frame = |text: &'static [u8]| FrameOut::new(9, vec![Bytes::from_static(text)]);
    scene.client.1.write([frame(b"up")]).await.unwrap();
    assert_eq!(there.read().await.unwrap().unwrap().body, "up");
    back.write([frame(b"down")]).await.unwrap();
    assert_eq!(scene.client.0.read().await.unwrap().unwrap().body, "down");

    // The same leader, said again, is no change.
    scene.leadership.modify(|now| now.term = 2);
    back.write([frame(b"still")]).await.unwrap();
    assert_eq!(scene.client.0.read().await.unwrap().unwrap().body, "still");

    scene.leadership.set(led_by(None, None));
    scene.ended.await.unwrap();
    assert!(!matches!(scene.client.0.read().await, Ok(Some(_))));
    assert!(!matches!(there.read().await, Ok(Some(_))));
}

#[tokio::test]
async fn a_leader_that_does_not_take_the_client_is_no_leader_to_it() {
    let refusals = [
        Rejection::new(Code::ShuttingDown, "stopping"),
        Rejection::new(Code::Unauthorized, "another token"),
    ];
    for (refusal, wanted) in refusals.into_iter().zip([Code::ShuttingDown, Code::NoLeader]) {
        let mut scene = scene();
        let mut listener = scene.net.host("node2").listen("node2:1").await.unwrap();
        let _held = accept(&mut listener, Greeting::Refused(refusal)).await;
        let refused = greeting(&mut scene.client.0).await.into_result().unwrap_err();
        assert_eq!((refused.code, refused.code.retryable()), (wanted, true));
        scene.ended.await.unwrap();
    }
}

#[tokio::test]
async fn an_unreachable_leader_is_said_so() {
    let mut scene = scene();
    let refused = greeting(&mut scene.client.0).await.into_result().unwrap_err();
    assert_eq!(refused.code, Code::NoLeader);
    assert!(refused.message.contains("node 2 at node2:1"), "{refused}");
}
