//! Who is at the other end of a loopback connection: found by the socket, not by what is said.

use std::net::SocketAddr;
use std::path::Path;

use super::links::Host;
use crate::bed::roster::Roster;

/// The host whose process holds the socket that is bound to `caller` and connected to `here`:
/// clients if it is no node's.
pub fn of(roster: &Roster, caller: SocketAddr, here: SocketAddr) -> Host {
    let Some(inode) = inode(caller, here) else { return Host::CLIENTS };
    let socket = format!("socket:[{inode}]");
    let nodes = roster.nodes();
    let owner = nodes.iter().find(|node| node.pid.is_some_and(|pid| holds(pid, &socket)));
    owner.map_or(Host::CLIENTS, |node| node.host)
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .flatten()
        .any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == Path::new(socket)))
}

fn inode(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (in_table(local)?, in_table(remote)?);
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let found = (fields.nth(1)? == local) & (fields.next()? == remote);
        found.then(|| fields.nth(6)?.parse().ok()).flatten()
    })
}

/// An address as the kernel's table of connections shows it.
fn in_table(addr: SocketAddr) -> Option<String> {
    let SocketAddr::V4(addr) = addr else { return None };
    let ip = u32::from_ne_bytes(addr.ip().octets());
    Some(format!("{ip:08X}:{:04X}", addr.port()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_socket_of_a_caller_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let caller = TcpStream::connect(here).unwrap();
        let found = inode(caller.local_addr().unwrap(), here).unwrap();
        assert!(holds(std::process::id(), &format!("socket:[{found}]")));
        assert!(!holds(std::process::id(), "socket:[1]"));
        assert_eq!(of(&Roster::default(), caller.local_addr().unwrap(), here), Host::CLIENTS);
    }
}
