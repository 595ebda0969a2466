//! Both networks keep the same promises; the one in memory does so without a runtime.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt;

use super::{frame, within};
use crate::transport::{
    Frame, FrameError, Listener, MemNet, Net, Reader, TcpNet, Writer, exchange, split,
};

const MAX: usize = 1 << 16;

async fn answers_with_its_kind_plus_one<L: Listener>(mut listener: L) {
    let (mut reader, mut writer) = split(listener.accept().await.unwrap().0, MAX);
    while let Some(Frame { kind, body, .. }) = reader.read().await.unwrap() {
        writer.write([frame(kind + 1, body)]).await.unwrap();
    }
}

async fn talks<N: Net>(server: N, client: N, addr: &str) {
    let listener = server.listen(addr).await.unwrap();
    let dialled = listener.local_addr();
    let talk = async {
        let stream = client.dial(&dialled).await.unwrap();
        let (answer, mut reader, mut writer) =
            exchange(stream, frame(1, "hello"), MAX).await.unwrap();
        assert_eq!((answer.kind, &answer.body[..]), (2, &b"hello"[..]));
        writer.write((10..20).map(|kind| frame(kind, "more"))).await.unwrap();
        for kind in 10..20 {
            assert_eq!(reader.read().await.unwrap().unwrap().kind, kind + 1);
        }
        writer.close().await.unwrap();
        assert!(reader.read().await.unwrap().is_none());
    };
    tokio::join!(answers_with_its_kind_plus_one(listener), talk);
}

#[tokio::test]
async fn tcp_talks() {
    within(talks(TcpNet, TcpNet, "127.0.0.1:0")).await;
}

/// Wakes nobody: a future that waits is polled again anyway.
struct Again;

impl Wake for Again {
    fn wake(self: Arc<Self>) {}
}

fn run_without_runtime<T>(work: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Again));
    let mut work = pin!(work);
    for _ in 0..1_000_000 {
        if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
    }
    panic!("no end in a million polls");
}

#[test]
fn memory_talks_without_a_runtime() {
    let net = MemNet::new("server");
    run_without_runtime(talks(net.clone(), net.host("client"), "server:0"));
}

#[tokio::test]
async fn refusals_name_the_address() {
    let net = MemNet::new("a");
    let refused = net.dial("b:1").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(refused.to_string().contains("cannot connect to b:1"), "{refused}");
    let _first = net.listen("a:1").await.unwrap();
    assert_eq!(net.listen("a:1").await.unwrap_err().kind(), ErrorKind::AddrInUse);

    let listener = TcpNet.listen("127.0.0.1:0").await.unwrap();
    let addr = Listener::local_addr(&listener);
    let taken = TcpNet.listen(&addr).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    assert!(taken.to_string().contains(&addr), "{taken}");
    drop(listener);
    let refused = within(TcpNet.dial(&addr)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(within(TcpNet.listen("no such host:1")).await.is_err());
}

#[tokio::test]
async fn a_peer_that_closes_gives_no_answer() {
    let net = MemNet::new("a");
    let mut listener = net.listen("a:1").await.unwrap();
    let stream = net.dial("a:1").await.unwrap();
    drop(listener.accept().await.unwrap());
    let answer = within(exchange(stream, frame(1, ""), MAX)).await;
    assert!(matches!(answer, Err(FrameError::NoAnswer | FrameError::Io(_))));
}

type Ends<N> = (Reader<<N as Net>::Stream>, Writer<<N as Net>::Stream>);

/// Both framed ends of one connection from host `a` to host `b`.
async fn connected(a: &MemNet) -> (Ends<MemNet>, Ends<MemNet>) {
    let mut listener = a.host("b").listen("b:0").await.unwrap();
    let dialled = a.dial(&listener.local_addr()).await.unwrap();
    let (accepted, from) = listener.accept().await.unwrap();
    assert_eq!(from, "a");
    (split(dialled, MAX), split(accepted, MAX))
}

fn is_reset<T>(result: &Result<T, FrameError>) -> bool {
    matches!(result, Err(FrameError::Io(error)) if error.kind() == ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn a_cut_resets_whoever_waits_and_whoever_comes() {
    let a = MemNet::new("a");
    let (mut near, mut far) = connected(&a).await;
    let (waited, _) = within(async { tokio::join!(far.0.read(), async { a.cut("b", "a") }) }).await;
    assert!(is_reset(&waited));
    assert!(is_reset(&near.1.write([frame(1, "x")]).await));
    let _listener = a.host("b").listen("b:7").await.unwrap();
    assert_eq!(a.dial("b:7").await.unwrap_err().kind(), ErrorKind::HostUnreachable);
    assert!(a.host("c").dial("b:7").await.is_ok(), "others still reach it");
    a.heal("a", "b");
    assert!(a.dial("b:7").await.is_ok());
    assert!(is_reset(&near.0.read().await), "what was cut stays dead");
}

#[tokio::test]
async fn a_hold_delays_and_loses_nothing() {
    let a = MemNet::new("a");
    let (mut near, mut far) = connected(&a).await;
    near.1.write([frame(1, "on the way")]).await.unwrap();
    a.hold("a", "b");
    assert!(far.0.read().now_or_never().is_none());
    assert!(near.1.write([frame(2, "waits")]).now_or_never().is_none());
    let read = async { [far.0.read().await.unwrap(), far.0.read().await.unwrap()] };
    let (got, flushed, ()) =
        within(async { tokio::join!(read, near.1.flush(), async { a.heal("a", "b") }) }).await;
    flushed.unwrap();
    assert_eq!(got.map(|frame| frame.unwrap().kind), [1, 2]);
}

#[tokio::test]
async fn a_crash_resets_links_and_frees_addresses() {
    let a = MemNet::new("a");
    let (mut near, _far) = connected(&a).await;
    let _old = a.host("b").listen("b:7").await.unwrap();
    a.crash("b");
    assert!(is_reset(&near.0.read().await));
    assert_eq!(a.dial("b:7").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let mut reborn = a.host("b").listen("b:7").await.unwrap();
    let _stream = a.dial("b:7").await.unwrap();
    assert!(within(reborn.accept()).await.is_ok());
}
