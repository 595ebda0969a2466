//! Bad input at the process's borders: a clear error, and nobody else is disturbed.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::{binary, both, cluster, command};

/// Runs `aqueduct node` with these words; it is expected to end by itself.
async fn node(words: &[&str]) -> std::process::Output {
    let mut command = Command::new(binary());
    let flags = ["--listen", "--peer", "--admin", "--http"];
    let flags = flags.iter().filter(|flag| !words.contains(flag));
    let addresses = flags.flat_map(|flag| [*flag, "127.0.0.1:0"]);
    command.arg("node").args(addresses).args(words).stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(crate::support::SOON, command.output())
        .await
        .expect("the node gives up in time")
        .expect("run the node")
}

#[tokio::test]
async fn garbage_on_every_port_disturbs_nobody() {
    let cluster = cluster(1, &[]).await;
    let ready = cluster.local.nodes[0].ready.clone();
    let garbage: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0xff; 4096], &[0, 0, 0, 0, 0, 0, 0, 0], b"\x10\0\0"];
    for address in [&ready.client_addr, &ready.peer_addr, &ready.admin_addr, &ready.http_addr] {
        for bytes in garbage {
            let mut stream = TcpStream::connect(address).await.expect("connect");
            stream.write_all(bytes).await.expect("write");
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            // The node may answer or just close; it must do one of them.
            let read = stream.read_to_end(&mut answer);
            let ended = tokio::time::timeout(crate::support::SOON, read).await;
            assert!(ended.is_ok(), "{address} keeps a garbled connection open");
        }
    }
    assert_eq!(cluster.lines(&["pub", "default", "still here"]).await[0]["seq"], 1);
}

#[tokio::test]
async fn two_nodes_on_one_directory_are_refused() {
    let cluster = cluster(1, &[]).await;
    let dir = cluster.local.nodes[0].data_dir.to_str().expect("UTF-8").to_string();
    let second = node(&["--data-dir", &dir, "--bootstrap"]).await;
    assert!(!second.status.success());
    assert!(both(&second).contains("another node"), "{}", both(&second));
}

#[tokio::test]
async fn a_directory_of_another_cluster_does_not_join() {
    let mut first = cluster(1, &[]).await;
    let second = cluster(1, &[]).await;
    let node_of_first = &mut first.local.nodes[0];
    node_of_first.kill().await.expect("kill");
    let dir = node_of_first.data_dir.to_str().expect("UTF-8").to_string();
    let peer = second.local.nodes[0].ready.peer_addr.clone();
    let output = node(&["--data-dir", &dir, "--join", &peer]).await;
    assert!(!output.status.success());
    assert!(both(&output).contains("cluster"), "{}", both(&output));
}

#[tokio::test]
async fn open_listeners_need_a_token_or_an_explicit_word() {
    let dir = tempfile::tempdir().expect("make a directory");
    let data = dir.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let refused = node(&["--data-dir", data, "--bootstrap", "--listen", "0.0.0.0:0"]).await;
    assert!(!refused.status.success());
    let said = both(&refused);
    assert!(said.contains("--insecure-bind") && said.contains("token"), "{said}");
}

#[tokio::test]
async fn tokens_are_checked() {
    let dir = tempfile::tempdir().expect("make a directory");
    let write = |name: &str, token: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, token).expect("write a token file");
        path.to_str().expect("UTF-8").to_string()
    };
    let (peers, clients, wrong) =
        (write("peers", "p-secret-1"), write("clients", "c-secret-1"), write("wrong", "other"));
    let mut cluster = crate::support::unasked_cluster(
        1,
        &["--cluster-token-file", &peers, "--client-token-file", &clients],
    )
    .await;
    let ready = cluster.local.nodes[0].ready.clone();
    let publish = |token: Option<String>| {
        let mut command = command(&ready.client_addr, &["pub", "default", "x"]);
        token.into_iter().for_each(|t| {
            command.args(["--token-file", &t]);
        });
        command
    };
    let without = publish(None).output().await.expect("run");
    assert_eq!(without.status.code(), Some(3), "{}", both(&without));
    assert!(both(&without).contains("token"), "{}", both(&without));
    let other = publish(Some(wrong.clone())).output().await.expect("run");
    assert_eq!(other.status.code(), Some(3), "{}", both(&other));
    let right = publish(Some(clients.clone())).output().await.expect("run");
    assert!(right.status.success(), "{}", both(&right));

    let data = dir.path().join("joiner");
    let data = data.to_str().expect("UTF-8");
    let stranger =
        node(&["--data-dir", data, "--join", &ready.peer_addr, "--cluster-token-file", &wrong])
            .await;
    assert!(!stranger.status.success(), "a peer without the cluster token joined");
    assert!(both(&stranger).contains("token"), "{}", both(&stranger));
    cluster.local.nodes[0].kill().await.expect("kill");
}

#[tokio::test]
async fn unknown_things_are_named() {
    let cluster = cluster(1, &[]).await;
    for (words, code, says) in [
        (vec!["pub", "nowhere", "x"], 3, "nowhere"),
        (vec!["channel", "show", "nowhere"], 3, "nowhere"),
        (vec!["channel", "create", "default"], 3, "default"),
        (vec!["channel", "rm", "default"], 3, "default"),
        (vec!["pub", "two words", "x"], 64, "two words"),
        (vec!["sub", "default", "--from", "yesterday"], 64, "yesterday"),
        (vec!["frobnicate"], 64, "frobnicate"),
        (vec!["cluster", "remove", "77"], 3, "77"),
    ] {
        let output = cluster.run(&words).await;
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", both(&output));
        assert!(both(&output).contains(says), "{words:?}: {}", both(&output));
    }
    let nobody = command("127.0.0.1:1", &["status", "--timeout", "1"]).output().await.expect("run");
    assert_eq!(nobody.status.code(), Some(4), "{}", both(&nobody));
}
