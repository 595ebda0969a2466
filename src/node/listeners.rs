//! The four listeners, bound before anything else is told where they are.

use tokio::net::TcpListener;

use super::config::Config;
use super::error::NodeError;
use crate::consensus::Member;
use crate::transport::{Listener, Net, TcpNet};
use crate::types::NodeId;

/// Bound and not yet served.
pub struct Listeners {
    pub client: TcpListener,
    pub peer: TcpListener,
    pub admin: TcpListener,
    pub http: TcpListener,
}

impl Listeners {
    /// Binds all four.
    pub async fn bind(config: &Config) -> Result<Listeners, NodeError> {
        Ok(Listeners {
            client: bind("listen", &config.listen).await?,
            peer: bind("peer", &config.peer).await?,
            admin: bind("admin", &config.admin).await?,
            http: bind("http", &config.http).await?,
        })
    }

    /// Has later lives of this process listen where this one does.
    pub fn pin(&self, config: &mut Config) {
        for (addr, listener) in [
            (&mut config.listen, &self.client),
            (&mut config.peer, &self.peer),
            (&mut config.admin, &self.admin),
            (&mut config.http, &self.http),
        ] {
            if addr.ends_with(":0") {
                *addr = Listener::local_addr(listener);
            }
        }
    }

    /// This node as others reach it: by what it advertises, else by what it is bound to.
    pub fn member(&self, config: &Config, id: NodeId) -> Member {
        Member {
            id,
            client_addr: advertised(&config.advertise_listen, &self.client),
            peer_addr: advertised(&config.advertise_peer, &self.peer),
            admin_addr: advertised(&config.advertise_admin, &self.admin),
        }
    }
}

async fn bind(setting: &'static str, addr: &str) -> Result<TcpListener, NodeError> {
    TcpNet.listen(addr).await.map_err(|error| NodeError::Listen(error, setting))
}

/// An advertised port 0 means the bound one, so that a name can be given without a port.
fn advertised(wanted: &Option<String>, listener: &TcpListener) -> String {
    let bound = Listener::local_addr(listener);
    match (wanted, bound.rsplit_once(':')) {
        (Some(addr), Some((_, port))) => match addr.strip_suffix(":0") {
            Some(host) => format!("{host}:{port}"),
            None => addr.clone(),
        },
        (Some(addr), None) => addr.clone(),
        (None, _) => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn actual_ports_are_advertised() {
        let mut config = Config {
            listen: "127.0.0.1:0".into(),
            peer: "127.0.0.1:0".into(),
            admin: "127.0.0.1:0".into(),
            http: "127.0.0.1:0".into(),
            advertise_listen: Some("events.example:443".into()),
            advertise_admin: Some("admin.example:0".into()),
            ..Config::default()
        };
        let listeners = Listeners::bind(&config).await.unwrap();
        let member = listeners.member(&config, NodeId(4));
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        assert_eq!(member.client_addr, "events.example:443");
        assert_eq!(member.peer_addr, format!("127.0.0.1:{}", port(&listeners.peer)));
        assert_eq!(member.admin_addr, format!("admin.example:{}", port(&listeners.admin)));

        listeners.pin(&mut config);
        assert_eq!((&config.peer, config.listen.ends_with(":0")), (&member.peer_addr, false));

        let taken = Config { listen: member.peer_addr, ..config };
        let error = Listeners::bind(&taken).await.err().unwrap().to_string();
        assert!(error.contains("in use") && error.contains("'listen'"), "{error}");
    }
}
