//! A network namespace per node, and a switch in this process between them.
//!
//! Namespaces and devices have no names on the machine: they go when this process and the nodes
//! are gone, however that happens.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow, bail};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::addresses::{self, Addresses};
use super::links::{Host, Links};
use super::switch::Switch;
use super::tun;

/// Host number of the clients in the subnet.
const CLIENTS_IP: u8 = 254;

/// See the module.
pub struct Namespaces {
    subnet: [u8; 3],
    /// The namespaces of the nodes.
    files: BTreeMap<Host, File>,
    switch: Switch,
}

impl Namespaces {
    /// A network that only the clients, who are in the namespace of this process, are in.
    pub fn start(links: Links, seed: u64) -> Result<Namespaces> {
        let subnet = free_subnet()?;
        let switch = Switch::start(links, seed)?;
        let device = tun::create("aqbed%d", ip(subnet, Host::CLIENTS))?;
        switch.connect(Host::CLIENTS, ip(subnet, Host::CLIENTS), device)?;
        let namespaces = Namespaces { subnet, files: BTreeMap::new(), switch };
        // Whether this works at all is to be known before anything is built on it.
        on_thread(|| File::from_fresh_namespace().map(drop))?;
        Ok(namespaces)
    }

    /// Adds a namespace with its own end of the switch.
    pub fn add_host(&mut self, host: Host) -> Result<Addresses> {
        if host.0 >= CLIENTS_IP {
            bail!("a network has at most {} hosts", CLIENTS_IP - 1);
        }
        let ip = ip(self.subnet, host);
        let (file, device) = on_thread(|| {
            let file = File::from_fresh_namespace()?;
            tun::up("lo")?;
            Ok((file, tun::create("net0", ip)?))
        })?;
        self.files.insert(host, file);
        self.switch.connect(host, ip, device)?;
        let listen = addresses::on(ip);
        Ok(Addresses { reached: listen.clone(), listen })
    }

    /// Does something in a host's namespace.
    pub fn inside<T: Send>(&self, host: Host, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = self.files.get(&host).context("there is no such host")?;
        on_thread(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("enter a network namespace")?;
            Ok(work())
        })
    }
}

trait Fresh: Sized {
    /// Moves the calling thread into a fresh network namespace.
    fn from_fresh_namespace() -> Result<Self>;
}

impl Fresh for File {
    fn from_fresh_namespace() -> Result<File> {
        // SAFETY: a network namespace concerns neither memory nor file descriptors.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("create a network namespace")?;
        File::open("/proc/thread-self/ns/net").context("open a network namespace")
    }
}

/// Runs `work` on a thread of its own, which may change its namespace and then ends.
fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("bed-namespace".into());
        let thread = thread.spawn_scoped(scope, work).context("start a thread")?;
        thread.join().map_err(|_| anyhow!("a thread in a network namespace panicked"))?
    })
}

fn ip([a, b, c]: [u8; 3], host: Host) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, if host == Host::CLIENTS { CLIENTS_IP } else { host.0 })
}

/// A private /24 that no route of this machine leads to.
fn free_subnet() -> Result<[u8; 3]> {
    let routes = std::fs::read_to_string("/proc/net/route").context("read the routes")?;
    let taken: Vec<(u32, u32)> = routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let to = u32::from_str_radix(fields.nth(1)?, 16).ok()?.swap_bytes();
            let mask = u32::from_str_radix(fields.nth(5)?, 16).ok()?.swap_bytes();
            // A default route leads everywhere, and is overruled by ours.
            (mask != 0).then_some((to, mask))
        })
        .collect();
    // Not from the seed: beds side by side may have the same, and look at the same time.
    let mut rng = fastrand::Rng::new();
    for _ in 0..1000 {
        let subnet = [10, rng.u8(64..128), rng.u8(..)];
        let first = u32::from(ip(subnet, Host(1)));
        if taken.iter().all(|(to, mask)| first & mask != *to) {
            return Ok(subnet);
        }
    }
    bail!("there is no free subnet below 10.64.0.0/10")
}
