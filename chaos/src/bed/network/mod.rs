//! How nodes and clients reach each other, and how that is spoilt.
//!
//! Every rule is about a *directed link*, so a one-way partition, a bridge or a majority ring is a
//! set of blocked links. Two carriers obey the same rules: `namespaces` (packets, as root) and
//! `proxies` (byte streams, for everybody).

mod addresses;
mod links;
mod namespaces;
mod owner;
mod proxies;
mod switch;
mod tun;

use anyhow::Result;

pub use addresses::Addresses;
pub use links::{Count, Host, Links, Shape};

use super::options::NetworkKind;
use super::roster::Roster;
use namespaces::Namespaces;
use proxies::Proxies;

/// The network of a bed.
pub struct Network {
    links: Links,
    carrier: Carrier,
    left_out: Vec<String>,
}

enum Carrier {
    Namespaces(Namespaces),
    Proxies(Proxies),
}

impl Network {
    /// Lays a network without hosts. `Auto` falls back to proxies, and says why in
    /// [`Network::left_out`].
    pub fn start(kind: NetworkKind, roster: &Roster, seed: u64) -> Result<Network> {
        let links = Links::default();
        let proxies = |why: Option<anyhow::Error>| -> Result<Network> {
            let mut left_out = proxies::left_out();
            left_out.extend(why.map(|why| format!("network namespaces: {why:#}")));
            let carrier = Carrier::Proxies(Proxies::start(links.clone(), roster.clone(), seed)?);
            Ok(Network { links: links.clone(), carrier, left_out })
        };
        if kind == NetworkKind::Proxies {
            return proxies(None);
        }
        match Namespaces::start(links.clone(), seed) {
            Ok(carrier) => {
                let carrier = Carrier::Namespaces(carrier);
                Ok(Network { links, carrier, left_out: Vec::new() })
            }
            Err(why) if kind == NetworkKind::Auto => proxies(Some(why)),
            Err(why) => Err(why),
        }
    }

    /// Adds a host for a node, and tells its addresses.
    pub async fn add_host(&mut self, host: Host) -> Result<Addresses> {
        match &mut self.carrier {
            Carrier::Namespaces(namespaces) => namespaces.add_host(host),
            Carrier::Proxies(proxies) => proxies.add_host(host).await,
        }
    }

    /// Does something where `host` is: what is started there is connected as the host is.
    pub fn inside<T: Send>(&self, host: Host, work: impl FnOnce() -> T + Send) -> Result<T> {
        match &self.carrier {
            Carrier::Namespaces(namespaces) => namespaces.inside(host, work),
            Carrier::Proxies(_) => Ok(work()),
        }
    }

    /// The rules. Clones are handles to the same.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Nothing from `from` reaches `to` any more.
    pub fn block(&self, from: Host, to: Host) {
        self.links.block(from, to);
    }

    /// Every link is whole again.
    pub fn heal_all(&self) {
        self.links.heal_all();
    }

    /// Spoils what goes from `from` to `to`.
    pub fn shape(&self, from: Host, to: Host, shape: Shape) {
        self.links.shape(from, to, shape);
    }

    /// Whether single packets are lost, duplicated and reordered here.
    pub fn has_packets(&self) -> bool {
        matches!(self.carrier, Carrier::Namespaces(_))
    }

    /// What this network cannot do.
    pub fn left_out(&self) -> Vec<String> {
        self.left_out.clone()
    }
}
