//! A listener with a doorkeeper: whoever comes in has said who they are, and may.
//!
//! Bytes that make no sense, a wrong token or version, another cluster: each is answered with a
//! refusal that says why, and closed, without disturbing anybody else. A caller that says nothing
//! is closed after a deadline. Beyond the limit of connections callers are refused, not queued.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::token::Token;
use crate::env::Watch;
use crate::transport::{ByteStream, FrameError, Listener, Reader, Writer, split};
use crate::types::{ClusterId, Code, Rejection, limits};
use crate::wire::{Greeting, Hello, Service};

/// How long a caller may take to say hello.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// How long a refused caller may take to read why.
const REFUSAL_MAX: Duration = Duration::from_secs(1);
/// Pause after a failed accept: it fails again at once while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Callers beyond the limit that are told so at a time; others are just closed.
const REFUSALS_AT_ONCE: usize = 64;

/// Names of doors.
pub const CLIENT: &str = "client";
pub const ADMIN: &str = "admin";
pub const PEER: &str = "peer";

/// What a listener asks of its callers.
#[derive(Debug)]
pub struct Rules {
    /// Its name in logs and refusals: [`CLIENT`], [`ADMIN`] or [`PEER`].
    pub door: &'static str,
    pub services: &'static [Service],
    pub token: Token,
    /// Which setting holds the token, for the refusal.
    pub token_setting: &'static str,
    /// Connections at a time.
    pub connections_max: usize,
}

/// A caller that was let in. Its hello is not answered yet.
pub struct Visitor<S> {
    pub hello: Hello,
    pub reader: Reader<S>,
    pub writer: Writer<S>,
    /// The caller's address.
    pub from: String,
    /// The name of the door it came in by.
    pub door: &'static str,
}

impl<S: ByteStream> Visitor<S> {
    /// Answers the hello with a refusal and closes.
    pub async fn refuse(mut self, rejection: Rejection) {
        refuse(&mut self.writer, rejection).await;
    }
}

/// What becomes of visitors.
pub trait Reception<S>: Clone + Send + Sync + 'static {
    /// The cluster callers must belong to, if this node belongs to one.
    fn cluster(&self) -> Option<ClusterId>;

    /// Serves one visitor to the end.
    fn receive(&self, visitor: Visitor<S>) -> impl Future<Output = ()> + Send;
}

/// Lets callers in until `closing` turns true; then lets nobody in and ends when the last caller
/// has left. Dropping it ends their service at once.
pub async fn open<L: Listener>(
    mut listener: L,
    rules: Rules,
    reception: impl Reception<L::Stream>,
    mut closing: Watch<bool>,
) {
    let rules = Arc::new(rules);
    let slots = Arc::new(Semaphore::new(rules.connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_AT_ONCE));
    let mut callers = tokio::task::JoinSet::new();
    loop {
        while callers.try_join_next().is_some() {}
        let accepted = tokio::select! { biased;
            _ = closing.wait_for(|closing| *closing) => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(door = rules.door, %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (rules, reception) = (rules.clone(), reception.clone());
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            callers.spawn(async move {
                let _slot = slot;
                answer(stream, from, &rules, reception).await;
            });
        } else if let Ok(slot) = refusals.clone().try_acquire_owned() {
            callers.spawn(async move {
                let _slot = slot;
                turn_away(stream, &rules).await;
            });
        }
    }
    drop(listener);
    while callers.join_next().await.is_some() {}
}

async fn answer<S: ByteStream>(
    stream: S,
    from: String,
    rules: &Rules,
    reception: impl Reception<S>,
) {
    let (mut reader, mut writer) = split(stream, limits::HANDSHAKE_BYTES_MAX);
    let said = tokio::time::timeout(HELLO_MAX, reader.read()).await;
    let hello = match said {
        // Port scanners and health checks connect and leave.
        Ok(Ok(None)) => return,
        Ok(Ok(Some(frame))) => Hello::decode(frame.kind, frame.body).map_err(Rejection::from),
        Ok(Err(error)) => Err(nonsense(&error)),
        Err(_) => Err(Rejection::new(
            Code::BadRequest,
            format!("no hello within {} s", HELLO_MAX.as_secs()),
        )),
    };
    match hello.and_then(|hello| admit(hello, rules, reception.cluster())) {
        Ok(hello) => {
            reception.receive(Visitor { hello, reader, writer, from, door: rules.door }).await
        }
        Err(rejection) => {
            debug!(door = rules.door, from, %rejection, "a caller was refused");
            refuse(&mut writer, rejection).await;
        }
    }
}

/// Whether the caller may come in.
fn admit(hello: Hello, rules: &Rules, cluster: Option<ClusterId>) -> Result<Hello, Rejection> {
    if !rules.services.contains(&hello.service) {
        let message = format!("the {} port does not serve {:?}", rules.door, hello.service);
        return Err(Rejection::new(Code::NotAllowed, message)
            .hint("look up the node's addresses with `aqueduct cluster`"));
    }
    if !rules.token.admits(&hello.token) {
        let what = if hello.token.is_empty() { "no token was presented" } else { "a wrong token" };
        return Err(Rejection::new(
            Code::Unauthorized,
            format!("{what} at the {} port", rules.door),
        )
        .hint(format!("present the text of this node's {}", rules.token_setting)));
    }
    match (hello.cluster, cluster) {
        (Some(wanted), Some(ours)) if wanted != ours => {
            let message = format!("this node belongs to cluster {ours}, not to {wanted}");
            Err(Rejection::new(Code::WrongCluster, message).hint("check the address"))
        }
        _ => Ok(hello),
    }
}

fn nonsense(error: &FrameError) -> Rejection {
    Rejection::new(Code::BadRequest, format!("the first frame makes no sense: {error}"))
        .hint("speak the Aqueduct protocol; health checks belong to the http port")
}

async fn turn_away<S: ByteStream>(stream: S, rules: &Rules) {
    let (_reader, mut writer) = split(stream, limits::HANDSHAKE_BYTES_MAX);
    let message = format!("the {} port has {} connections", rules.door, rules.connections_max);
    refuse(&mut writer, Rejection::new(Code::Overloaded, message).hint("use another node")).await;
}

/// Says why, if the caller still listens.
async fn refuse<S: ByteStream>(writer: &mut Writer<S>, rejection: Rejection) {
    let told = async {
        writer.write([Greeting::Refused(rejection).encode().into()]).await?;
        writer.close().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(REFUSAL_MAX, told).await {
        debug!(%error, "a refusal did not reach its caller");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::env::watch;
    use crate::transport::{FrameOut, FrameReader, Net, TcpNet, exchange};
    use crate::types::NodeId;
    use crate::wire::{PROTOCOL_VERSION_MIN, Welcome, newest_version};

    const OURS: ClusterId = ClusterId(7);

    /// Welcomes everybody.
    #[derive(Clone)]
    struct Host;

    impl<S: ByteStream> Reception<S> for Host {
        fn cluster(&self) -> Option<ClusterId> {
            Some(OURS)
        }

        async fn receive(&self, mut visitor: Visitor<S>) {
            let welcome = Welcome {
                version: visitor.hello.version(),
                cluster: OURS,
                node: NodeId(1),
                incarnation: 1,
                leader: true,
                event_bytes_max: 1,
                lane_in_flight_max: 1,
                newest: newest_version(),
            };
            let _ = visitor.writer.write([Greeting::Welcome(welcome).encode().into()]).await;
            // Until the caller leaves.
            let _ = visitor.reader.read().await;
        }
    }

    async fn door(connections_max: usize) -> (String, tokio::task::JoinHandle<()>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "the secret of this cluster").unwrap();
        let rules = Rules {
            door: PEER,
            services: &[Service::Peer, Service::Admin],
            token: Token::of(Some(&file)).unwrap(),
            token_setting: "cluster_token_file",
            connections_max,
        };
        let listener = TcpNet.listen("127.0.0.1:0").await.unwrap();
        let addr = Listener::local_addr(&listener);
        let (publisher, closing) = watch(false);
        // Never closed: the test drops the door.
        std::mem::forget(publisher);
        (addr, tokio::spawn(open(listener, rules, Host, closing)))
    }

    fn hello(change: impl FnOnce(&mut Hello)) -> FrameOut {
        let mut hello = Hello::new(Service::Peer, "test");
        hello.token = "the secret of this cluster".into();
        change(&mut hello);
        hello.encode().into()
    }

    async fn greet(addr: &str, hello: FrameOut) -> Result<Welcome, Rejection> {
        let stream = TcpNet.dial(addr).await.unwrap();
        let (frame, _reader, _writer) =
            exchange(stream, hello, limits::HANDSHAKE_BYTES_MAX).await.unwrap();
        Greeting::decode(frame.kind, frame.body).unwrap().into_result()
    }

    #[tokio::test]
    async fn callers_are_judged_by_their_hello() {
        let (addr, _door) = door(8).await;
        let other_magic = || {
            let mut frame: FrameOut = hello(|_| ());
            let mut bytes = frame.parts.concat();
            bytes[0] = b'X';
            frame.parts = vec![Bytes::from(bytes)];
            frame
        };
        let cases: Vec<(&str, FrameOut, Result<(), Code>)> = vec![
            ("welcome", hello(|_| ()), Ok(())),
            ("same cluster", hello(|h| h.cluster = Some(OURS)), Ok(())),
            ("no token", hello(|h| h.token.clear()), Err(Code::Unauthorized)),
            ("wrong token", hello(|h| h.token.push('!')), Err(Code::Unauthorized)),
            ("long token", hello(|h| h.token = "x".repeat(500)), Err(Code::BadRequest)),
            ("service", hello(|h| h.service = Service::Data), Err(Code::NotAllowed)),
            ("cluster", hello(|h| h.cluster = Some(ClusterId(8))), Err(Code::WrongCluster)),
            (
                "version",
                hello(|h| (h.version_min, h.version_max) = (90, 99)),
                Err(Code::VersionMismatch),
            ),
            ("magic", other_magic(), Err(Code::BadRequest)),
            ("kind", FrameOut::new(0x77, vec![]), Err(Code::BadRequest)),
            ("empty", FrameOut::new(0x01, vec![]), Err(Code::BadRequest)),
        ];
        for (what, hello, wanted) in cases {
            let got = greet(&addr, hello).await;
            assert_eq!(got.map(|_| ()).map_err(|r| r.code), wanted, "{what}");
        }
    }

    #[tokio::test]
    async fn callers_of_another_version_hear_both_ranges_whatever_they_want() {
        let (addr, _door) = door(8).await;
        for service in
            [Service::Data, Service::Admin, Service::Peer, Service::RelayData, Service::RelayAdmin]
        {
            let newer = hello(|h| (h.service, h.version_min, h.version_max) = (service, 90, 99));
            let refused = greet(&addr, newer).await.unwrap_err();
            assert_eq!(refused.code, Code::VersionMismatch, "{service:?}");
            let ours = format!("{PROTOCOL_VERSION_MIN} to {}", newest_version());
            for part in ["90 to 99", &ours] {
                assert!(refused.message.contains(part), "{service:?}: {refused}");
            }
            assert!(!refused.hint.is_empty() && !refused.code.retryable());
            // A version in common is found in any range that has one.
            if service == Service::Peer {
                let wide = hello(|h| (h.version_min, h.version_max) = (1, 99));
                assert_eq!(greet(&addr, wide).await.unwrap().version, newest_version());
            }
        }
    }

    #[tokio::test]
    async fn garbage_is_refused_and_disturbs_nobody() {
        let (addr, _door) = door(8).await;
        for garbage in [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            vec![0xff; 4096],
            vec![0; 12],
            hello(|_| ()).parts.concat()[..3].to_vec(),
        ] {
            let mut stream = TcpNet.dial(&addr).await.unwrap();
            stream.write_all(&garbage).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            // A reset is fine too: the door closes with our bytes unread.
            let _ = stream.read_to_end(&mut answer).await;
            if !answer.is_empty() {
                let mut frames = FrameReader::new(&answer[..], limits::HANDSHAKE_BYTES_MAX);
                let frame = frames.read().await.unwrap().unwrap();
                let greeting = Greeting::decode(frame.kind, frame.body).unwrap();
                assert_eq!(greeting.into_result().unwrap_err().code, Code::BadRequest);
            }
        }
        assert!(greet(&addr, hello(|_| ())).await.is_ok());
    }

    #[tokio::test]
    async fn beyond_the_limit_callers_are_turned_away() {
        let (addr, _door) = door(1).await;
        let stream = TcpNet.dial(&addr).await.unwrap();
        let held = exchange(stream, hello(|_| ()), limits::HANDSHAKE_BYTES_MAX).await.unwrap();
        let refused = greet(&addr, hello(|_| ())).await.unwrap_err();
        assert_eq!((refused.code, refused.code.retryable()), (Code::Overloaded, true));
        drop(held);
        // The slot is free once the door notices.
        let freed = async {
            while greet(&addr, hello(|_| ())).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), freed).await.unwrap();
    }
}
