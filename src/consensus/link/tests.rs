use crate::env::TokioRuntime;
use crate::transport::{Listener, MemListener, MemNet, MemStream, split};
use crate::types::{ClusterId, NodeId, limits};
use crate::wire::{Greeting, Hello, PROTOCOL_VERSION, Service, Welcome};

use super::super::addresses::Addresses;
use super::super::dial::PeerIdentity;
use super::super::entry::vote;
use super::*;

const CLUSTER: ClusterId = ClusterId(5);
const PATIENT: Duration = Duration::from_secs(20);

struct Peer {
    net: MemNet,
    listener: MemListener,
    link: Link<TokioRuntime>,
    /// Shares the life with the first.
    other: Link<TokioRuntime>,
}

async fn peer() -> Peer {
    let net = MemNet::new("me");
    let listener = net.host("peer").listen("peer:1").await.unwrap();
    let target = Member { id: NodeId(2), peer_addr: "peer:1".into(), ..Member::default() };
    let identity =
        PeerIdentity { node: NodeId(1), cluster: CLUSTER, token: "secret".into(), incarnation: 3 };
    let dialer = Dialer { identity, addresses: Addresses::default(), net: net.clone() };
    let life = Life::new();
    let link = || Link::sharing(life.clone(), target.clone(), dialer.clone(), TokioRuntime::new());
    Peer { net, listener, link: link(), other: link() }
}

impl Peer {
    /// Accepts the next connection and answers its hello as `node`.
    async fn accept(&mut self, node: u64) -> (Reader<MemStream>, Writer<MemStream>) {
        self.accept_as(node, 1).await
    }

    /// The same, as this life of it.
    async fn accept_as(
        &mut self,
        node: u64,
        incarnation: u64,
    ) -> (Reader<MemStream>, Writer<MemStream>) {
        let (stream, _) = self.listener.accept().await.unwrap();
        let (mut reader, mut writer) = split(stream, limits::PEER_FRAME_BYTES_MAX);
        let frame = reader.read().await.unwrap().unwrap();
        let hello = Hello::decode(frame.kind, frame.body).unwrap();
        assert_eq!((hello.service, hello.node), (Service::Peer, Some(NodeId(1))));
        assert_eq!((hello.token.as_str(), hello.incarnation), ("secret", 3));
        let welcome = Greeting::Welcome(Welcome {
            version: PROTOCOL_VERSION,
            cluster: CLUSTER,
            node: NodeId(node),
            incarnation,
            leader: false,
            event_bytes_max: 0,
            lane_in_flight_max: 0,
            newest: 1,
        });
        writer.write([welcome.encode().into()]).await.unwrap();
        (reader, writer)
    }

    fn ask(&self, ttl: Duration) -> impl Future<Output = Answer> + use<> {
        let link = self.link.clone();
        async move { link.call(&Request::Install, vec![Bytes::from_static(b"bulk")], ttl).await }
    }
}

async fn next_request(reader: &mut Reader<MemStream>) -> u64 {
    let frame = reader.read().await.unwrap().unwrap();
    let (id, request, bulk) = rpc::decode::<Request>(frame.body).unwrap();
    assert_eq!((frame.kind, request, &bulk[..]), (REQUEST, Request::Install, &b"bulk"[..]));
    id
}

async fn respond(writer: &mut Writer<MemStream>, id: u64, term: u64) {
    let response = Response::Installed { vote: vote(term, NodeId(2), true) };
    let head = rpc::encode(id, &response).unwrap();
    writer.write([FrameOut::new(RESPONSE, vec![head])]).await.unwrap();
}

fn term(answer: Answer) -> u64 {
    match answer.unwrap().0 {
        Response::Installed { vote } => vote.leader_id.term,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    let mut peer = peer().await;
    let first = tokio::spawn(peer.ask(PATIENT));
    let (mut reader, mut writer) = peer.accept(2).await;
    let one = next_request(&mut reader).await;
    let second = tokio::spawn(peer.ask(PATIENT));
    let two = next_request(&mut reader).await;
    respond(&mut writer, two, 2).await;
    respond(&mut writer, one, 1).await;
    respond(&mut writer, 999, 9).await;
    assert_eq!((term(first.await.unwrap()), term(second.await.unwrap())), (1, 2));
}

#[tokio::test]
async fn a_reset_fails_what_waits_and_the_next_request_dials_again() {
    let mut peer = peer().await;
    let lost = tokio::spawn(peer.ask(PATIENT));
    let (mut reader, writer) = peer.accept(2).await;
    next_request(&mut reader).await;
    drop((reader, writer));
    assert!(matches!(lost.await.unwrap(), Err(CallError::Unreachable(_))));
    let found = tokio::spawn(peer.ask(PATIENT));
    let (mut reader, mut writer) = peer.accept(2).await;
    let id = next_request(&mut reader).await;
    respond(&mut writer, id, 4).await;
    assert_eq!(term(found.await.unwrap()), 4);
}

#[tokio::test]
async fn a_silent_connection_is_given_up() {
    let mut peer = peer().await;
    let first = tokio::spawn(peer.ask(SILENCE_MAX + Duration::from_millis(50)));
    let (mut reader, _writer) = peer.accept(2).await;
    next_request(&mut reader).await;
    peer.net.hold("me", "peer");
    assert!(matches!(first.await.unwrap(), Err(CallError::Timeout(_))));
    peer.net.heal("me", "peer");
    let again = tokio::spawn(peer.ask(PATIENT));
    let (mut reader, mut writer) = peer.accept(2).await;
    let id = next_request(&mut reader).await;
    respond(&mut writer, id, 6).await;
    assert_eq!(term(again.await.unwrap()), 6);
}

#[tokio::test]
async fn a_connection_to_an_earlier_life_ends_when_another_meets_the_next() {
    let mut peer = peer().await;
    let lost = tokio::spawn(peer.ask(PATIENT));
    let (mut reader, _writer) = peer.accept_as(2, 1).await;
    next_request(&mut reader).await;
    let other = peer.other.clone();
    let asked = async move {
        other.call(&Request::Install, Vec::from([Bytes::from_static(b"bulk")]), PATIENT).await
    };
    let found = tokio::spawn(asked);
    let (mut reader, mut writer) = peer.accept_as(2, 2).await;
    let Err(CallError::Unreachable(reason)) = lost.await.unwrap() else { panic!("answered") };
    assert!(reason.contains("another life"), "{reason}");
    // The one that met it goes on.
    let id = next_request(&mut reader).await;
    respond(&mut writer, id, 4).await;
    assert_eq!(term(found.await.unwrap()), 4);
}

#[tokio::test]
async fn another_node_at_the_address_is_no_peer() {
    let mut peer = peer().await;
    let asked = tokio::spawn(peer.ask(PATIENT));
    let _connection = peer.accept(7).await;
    let Err(CallError::Unreachable(reason)) = asked.await.unwrap() else { panic!("answered") };
    assert!(reason.contains("is node 7"), "{reason}");
}

#[tokio::test]
async fn nobody_at_the_address_is_said_at_once() {
    let peer = peer().await;
    let link = peer.link.clone();
    drop(peer.listener);
    let answer = link.call(&Request::Install, Vec::new(), PATIENT).await;
    assert!(matches!(answer, Err(CallError::Unreachable(_))), "{answer:?}");
}
