//! The bed does what it says, with real processes on this machine. What is not permitted here is
//! skipped, and says so.

use std::time::{Duration, Instant};

use anyhow::Result;
use aqueduct_chaos::bed::{self, Bed, BedOptions, DiskKind, Host, NetworkKind, Shape, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Long enough for anything that is to happen.
const SOON: Duration = Duration::from_secs(20);
/// Long enough to say that something does not happen.
const A_WHILE: Duration = Duration::from_millis(600);

async fn bed(
    nodes: usize,
    change: impl FnOnce(&mut BedOptions),
) -> (tempfile::TempDir, Result<Bed>) {
    let dir = tempfile::tempdir().unwrap();
    let binary = tokio::task::spawn_blocking(bed::binary::find_or_build).await.unwrap().unwrap();
    let mut options = BedOptions::new(nodes, dir.path(), binary);
    (options.network, options.disks) = (NetworkKind::Proxies, DiskKind::Plain);
    change(&mut options);
    (dir, Bed::start(options).await)
}

/// The bed, or the reason why there cannot be one here.
fn permitted(what: &str, bed: Result<Bed>) -> Option<Bed> {
    match bed {
        Ok(bed) => Some(bed),
        Err(error) if !is_root() => {
            println!("SKIPPED, {what}: {error:#}");
            None
        }
        Err(error) => panic!("{what}: {error:#}"),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_start_die_and_come_back() {
    let (_dir, bed) = bed(3, |_| {}).await;
    let mut bed = bed.unwrap();
    bed.voters(3).await.unwrap();
    let leader = bed.leader().await.unwrap();
    bed.kill(&[leader]).await.unwrap();
    assert!(matches!(bed.node(leader).unwrap().state, State::Exited { signal: Some(9), .. }));
    let next = bed.until("another leads", |s| s.leader.is_some_and(|l| l.0 != leader)).await;
    assert_ne!(next.unwrap().leader.unwrap().0, leader);
    assert_eq!(bed.restart(leader).await.unwrap(), State::Ready);
    assert_eq!(bed.node(leader).unwrap().life, 2);
    bed.voters(3).await.unwrap();

    bed.terminate(&[leader]).await.unwrap();
    assert_eq!(bed.node(leader).unwrap().state, State::Exited { code: Some(0), signal: None });
    bed.remove(leader).await.unwrap();
    let new = bed.replace(leader).await.unwrap();
    assert!(new > 3, "a wiped node is another node");
    bed.voters(3).await.unwrap();
    let pids: Vec<u32> = bed.nodes().iter().filter_map(|node| node.pid).collect();
    assert_eq!(pids.len(), 3);
    drop(bed);
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }
}

/// Whether a byte goes from one host to another and back, and in what time.
async fn echo(bed: &Bed, from: Host, to: Host, within: Duration) -> Option<Duration> {
    let listen = bed.nodes().into_iter().find(|node| node.host == to)?.client_addr;
    let ip = listen.rsplit_once(':')?.0.to_string();
    let listener = bed.network().inside(to, || std::net::TcpListener::bind((ip, 0))).ok()?.ok()?;
    listener.set_nonblocking(true).ok()?;
    let addr = listener.local_addr().ok()?;
    let runtime = tokio::runtime::Handle::current();
    let listener = TcpListener::from_std(listener).ok()?;
    let socket = bed
        .network()
        .inside(from, || {
            let _context = runtime.enter();
            tokio::net::TcpSocket::new_v4()
        })
        .ok()?
        .ok()?;
    let trip = async {
        let answer = async {
            let (mut stream, _) = listener.accept().await?;
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await
        };
        let ask = async {
            let mut stream: TcpStream = socket.connect(addr).await?;
            let begun = Instant::now();
            stream.write_u8(7).await?;
            stream.read_u8().await.map(|_| begun.elapsed())
        };
        let (_, took) = tokio::join!(answer, ask);
        took.ok()
    };
    tokio::time::timeout(within, trip).await.ok().flatten()
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_obey_the_rules_of_their_link() {
    let (_dir, bed) = bed(2, |options| options.network = NetworkKind::Namespaces).await;
    let Some(bed) = permitted("network namespaces", bed) else { return };
    let (a, b) = (Host(1), Host(2));
    let network = bed.network();
    assert!(echo(&bed, a, b, SOON).await.is_some(), "a whole network carries bytes");

    for (from, to) in [(a, b), (b, a)] {
        network.block(from, to);
        assert!(echo(&bed, a, b, A_WHILE).await.is_none(), "{from:?} does not reach {to:?}");
        assert!(network.links().count(from, to).lost > 0);
        network.heal_all();
        assert!(echo(&bed, a, b, SOON).await.is_some(), "healed");
    }

    network.shape(a, b, Shape { delay_ms: 80, ..Shape::default() });
    let one_way = echo(&bed, a, b, SOON).await.unwrap();
    assert!(one_way >= Duration::from_millis(80), "{one_way:?}");
    network.shape(b, a, Shape { delay_ms: 80, ..Shape::default() });
    let both_ways = echo(&bed, a, b, SOON).await.unwrap();
    assert!(both_ways >= Duration::from_millis(160), "{both_ways:?}");
    network.heal_all();
    // A busy machine has delays of its own, but not always.
    let deadline = Instant::now() + SOON;
    while echo(&bed, a, b, SOON).await.unwrap() >= Duration::from_millis(80) {
        assert!(Instant::now() < deadline, "healed links are as slow as before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_direction_can_be_blocked_alone() {
    let (_dir, bed) = bed(2, |options| options.network = NetworkKind::Namespaces).await;
    let Some(bed) = permitted("network namespaces", bed) else { return };
    let nodes = bed.nodes();
    let addr = |host: Host| {
        let node = nodes.iter().find(|node| node.host == host).unwrap();
        format!("{}:9999", node.client_addr.rsplit_once(':').unwrap().0)
    };
    // Datagrams need no answer, so they show one direction alone.
    let socket = |host| {
        let addr = addr(host);
        let socket = bed.network().inside(host, || std::net::UdpSocket::bind(addr)).unwrap();
        let socket = socket.unwrap();
        socket.set_nonblocking(true).unwrap();
        tokio::net::UdpSocket::from_std(socket).unwrap()
    };
    let (one, two) = (socket(Host(1)), socket(Host(2)));
    bed.network().block(Host(1), Host(2));
    let mut buffer = [0; 16];
    one.send_to(b"lost", addr(Host(2))).await.unwrap();
    two.send_to(b"there", addr(Host(1))).await.unwrap();
    let received = tokio::time::timeout(SOON, one.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..received], b"there");
    assert!(tokio::time::timeout(A_WHILE, two.recv(&mut buffer)).await.is_err());
    bed.network().heal_all();
    one.send_to(b"now", addr(Host(2))).await.unwrap();
    let received = tokio::time::timeout(SOON, two.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..received], b"now");
}

/// Isolates the leader from its peers; another must lead, and after healing all must vote.
async fn a_leader_can_be_isolated(bed: &Bed) {
    bed.voters(3).await.unwrap();
    let leader = bed.leader().await.unwrap();
    let host = bed.node(leader).unwrap().host;
    let others: Vec<_> = bed.nodes().into_iter().filter(|node| node.id != leader).collect();
    for other in &others {
        bed.network().block(host, other.host);
        bed.network().block(other.host, host);
    }
    let deadline = Instant::now() + SOON;
    loop {
        // Asked of those who can know.
        let asked = bed.admin_at(others[0].id).unwrap().status(false).await;
        match asked.ok().and_then(|answer| answer.value.leader) {
            Some(next) if next.0 != leader => break,
            _ => assert!(Instant::now() < deadline, "nobody else leads"),
        }
    }
    bed.network().heal_all();
    bed.voters(3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_partition_by_pairs_of_nodes() {
    let (_dir, bed) = bed(3, |_| {}).await;
    a_leader_can_be_isolated(&bed.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_partition_a_cluster() {
    let (_dir, bed) = bed(3, |options| options.network = NetworkKind::Namespaces).await;
    let Some(bed) = permitted("network namespaces", bed) else { return };
    a_leader_can_be_isolated(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_what_was_not_synced() {
    let (_dir, bed) = bed(1, |options| options.disks = DiskKind::Ext4Images).await;
    let Some(mut bed) = permitted("ext4 images", bed) else { return };
    let dir = bed.node(1).unwrap().data_dir;
    let (synced, written) = (dir.join("synced"), dir.join("written"));
    for path in [&synced, &written] {
        std::fs::write(path, vec![7; 100_000]).unwrap();
    }
    std::fs::File::open(&synced).unwrap().sync_all().unwrap();
    std::fs::File::open(&dir).unwrap().sync_all().unwrap();
    std::fs::write(dir.join("later"), vec![7; 100_000]).unwrap();
    bed.power_cut(&[1]).await.unwrap();
    let len = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |found| found.len());
    assert_eq!(len("synced"), 100_000);
    assert_eq!(len("later"), 0, "it was written and never synced");
    assert_eq!(std::fs::read(&synced).unwrap(), vec![7; 100_000]);
    assert_eq!(bed.restart(1).await.unwrap(), State::Ready);
    assert_eq!(bed.leader().await.unwrap(), 1);

    bed.disk(1).unwrap().fill(1 << 20).unwrap();
    assert!(bed.disk(1).unwrap().free_bytes().unwrap() <= 1 << 20);
    assert!(std::fs::write(dir.join("too much"), vec![7; 2 << 20]).is_err());
    std::fs::remove_file(dir.join("too much")).unwrap();
    bed.disk(1).unwrap().relieve().unwrap();
    assert!(bed.disk(1).unwrap().free_bytes().unwrap() > 1 << 28);
    let root = dir.parent().unwrap().display().to_string();
    drop(bed);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&root), "unmounted with the bed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shim_fails_syncs_and_shifts_the_clock() {
    let (_dir, bed) = bed(1, |options| options.shim = true).await;
    let mut bed = bed.unwrap();
    let before = bed.shim(1).unwrap().counts().unwrap();
    assert!(before.syncs > 0, "the shim is in the node: {before:?}");
    assert_eq!((before.failed_syncs, before.shifted_reads), (0, 0));

    let shim = bed.shim(1).unwrap();
    shim.shift_clock(3_600_000).unwrap();
    shim.slow_syncs(5).unwrap();
    bed.admin().checkpoint().await.unwrap();
    let counts = shim.counts().unwrap();
    assert!(counts.shifted_reads > 0 && counts.slowed_syncs > 0, "{counts:?}");

    shim.fail_syncs(1).unwrap();
    provoke(&bed, "the node ends", |state| !state.is_running()).await;
    let counts = bed.shim(1).unwrap().counts().unwrap();
    assert_eq!(counts.failed_syncs, 1, "a node that cannot sync ends: {counts:?}");
    bed.shim(1).unwrap().reset().unwrap();
    assert_eq!(bed.restart(1).await.unwrap(), State::Ready);

    let pid = bed.nodes()[0].pid;
    bed.shim(1).unwrap().fill_disk(true).unwrap();
    provoke(&bed, "the node waits for room", |state| matches!(state, State::Full(_))).await;
    assert!(bed.shim(1).unwrap().counts().unwrap().refused_writes > 0);
    bed.shim(1).unwrap().fill_disk(false).unwrap();
    provoke(&bed, "the node is back", |state| *state == State::Ready).await;
    assert_eq!(bed.nodes()[0].pid, pid, "in the same process");
}

/// Gives the only node something to write; waits for what becomes of it.
async fn provoke(bed: &Bed, what: &str, wanted: impl Fn(&State) -> bool) {
    let (admin, roster) = (bed.admin(), bed.roster());
    let seen = roster.until(what, SOON, |nodes| wanted(&nodes[0].state));
    tokio::select! {
        seen = seen => drop(seen.unwrap()),
        _ = async { admin.checkpoint().await.ok(); std::future::pending().await } => {}
    }
}
