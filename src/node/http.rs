//! Health checks and metrics over HTTP/1.1, for orchestrators and Prometheus. Nothing else: there is
//! no way to change anything here.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::debug;

use crate::types::limits;

/// How long a caller may take to send its request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the listener tells.
pub trait Vitals: Send + Sync + 'static {
    /// Whether clients should be sent here now; if not, why.
    fn ready(&self) -> Result<(), String>;
    /// All metrics in OpenMetrics text.
    fn metrics(&self) -> BoxFuture<'_, String>;
}

/// Serves until dropped. At most [`limits::HTTP_CONNECTIONS_MAX`] connections; more wait.
pub async fn serve(listener: TcpListener, vitals: Arc<dyn Vitals>) {
    let slots = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "cannot accept an http connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let vitals = vitals.clone();
        connections.spawn(async move {
            let _slot = slot;
            let answer = service_fn(|request| {
                let vitals = vitals.clone();
                async move { Ok::<_, Infallible>(answer(&request, vitals.as_ref()).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = served.await {
                debug!(%error, "an http connection ended badly");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer<B>(request: &Request<B>, vitals: &dyn Vitals) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/livez" => plain(StatusCode::OK, "ok\n".into()),
        "/readyz" => match vitals.ready() {
            Ok(()) => plain(StatusCode::OK, "ok\n".into()),
            Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        "/metrics" => with_type(StatusCode::OK, vitals.metrics().await, METRICS_TYPE),
        _ => plain(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n".into()),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    with_type(status, text, "text/plain; charset=utf-8")
}

fn with_type(status: StatusCode, text: String, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    struct Fake(Result<(), String>);

    impl Vitals for Fake {
        fn ready(&self) -> Result<(), String> {
            self.0.clone()
        }

        fn metrics(&self) -> BoxFuture<'_, String> {
            Box::pin(async { "aqueduct_up 1\n".into() })
        }
    }

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn paths_are_answered() {
        let sick = || Err("no leader is known".to_string());
        for (vitals, line, status, body) in [
            (Ok(()), "GET /livez", "200 OK", "ok"),
            (sick(), "GET /livez", "200 OK", "ok"),
            (Ok(()), "GET /readyz", "200 OK", "ok"),
            (sick(), "GET /readyz?verbose", "503 Service Unavailable", "no leader is known"),
            (Ok(()), "GET /metrics", "200 OK", "aqueduct_up 1"),
            (Ok(()), "GET /", "404 Not Found", "/metrics"),
            (Ok(()), "POST /readyz", "405 Method Not Allowed", "only GET"),
            (Ok(()), "\u{1}\u{2}", "400 Bad Request", ""),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(serve(listener, Arc::new(Fake(vitals))));
            let request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = ask(address, &request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {answer}");
            assert!(answer.contains(body), "{line}: {answer}");
            server.abort();
        }
    }
}
