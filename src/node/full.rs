//! A node whose disk is full: it gives up its ballast, stays up to say so, and begins another life
//! when there is room.
//!
//! A failed log is never gone on with: what it holds is found again by opening it, as after a crash.

use std::time::Duration;

use tracing::{info, warn};

use super::error::NodeError;
use super::listeners::Listeners;
use super::ready::Announcement;
use super::reception::closed_desk;
use super::run::{Ended, Entrances, Frame};
use super::vitals::{DISK_FULL, Health};
use super::{door, http};
use crate::env::Runtime;
use crate::storage::{self, Ballast, StorageError};
use crate::transport::{Listener, TcpNet};
use crate::types::{Code, Rejection, limits};

/// How often is looked whether there is room.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Frame {
    /// Waits for room to open the data directory in.
    pub async fn wait_for_room(
        &mut self,
        full: &StorageError,
        announce: &impl Fn(Announcement),
    ) -> Result<Ended, NodeError> {
        let state = format!("{DISK_FULL}: {full}");
        warn!("{state}; this node takes no part until there is room");
        let Listeners { client, peer, admin, http } = self.bind().await?;
        let health = Health::<TcpNet>::starting();
        health.closed(&state);
        announce(Announcement::DiskFull {
            reason: full.to_string(),
            admin_addr: Listener::local_addr(&admin),
            http_addr: Listener::local_addr(&http),
            pid: std::process::id(),
        });
        let identity = storage::peek(&self.config.data_dir).ok().flatten();
        let reason = Rejection::new(Code::StorageFailed, &state)
            .hint("use another node; this one goes on by itself when there is room on its disk");
        let desk = closed_desk(state, reason, identity, Listener::local_addr(&client));
        let doors = self.open_closed(Entrances { client, peer, admin }, &desk);
        let mut stopping = self.stopping.clone();
        let ended = tokio::select! { biased;
            _ = stopping.wait_for(|stop| *stop) => Ended::Stopped,
            () = self.room() => Ended::Again,
            () = http::serve(http, std::sync::Arc::new(health)) => Ended::Stopped,
            () = doors => Ended::Stopped,
        };
        Ok(ended)
    }

    /// Completes when there is room.
    async fn room(&self) {
        let (dir, bytes) = (self.config.data_dir.clone(), self.config.ballast.0);
        let given_up = self.env.blocking(move || Ballast::of(&dir, bytes)?.give_up()).await;
        match given_up {
            Some(Ok(true)) => info!(bytes, "the ballast is given up"),
            Some(Ok(false)) | None => {}
            Some(Err(error)) => warn!(%error, "the ballast is not given up"),
        }
        loop {
            self.env.sleep(LOOK_EVERY).await;
            let dir = self.config.data_dir.clone();
            let is_there = move || {
                let ballast = Ballast::of(&dir, bytes);
                ballast.is_ok_and(|ballast| ballast.is_room_for(limits::ROOM_TO_OPEN_BYTES))
            };
            if self.env.blocking(is_there).await == Some(true) {
                info!("there is room on the disk: beginning another life");
                return;
            }
        }
    }

    /// Serves all doors of a node that takes no part.
    fn open_closed(
        &self,
        entrances: Entrances,
        desk: &super::reception::ClosedDesk,
    ) -> impl Future<Output = ()> + use<> {
        let Entrances { client, peer, admin } = entrances;
        let open =
            |listener, rules| door::open(listener, rules, desk.clone(), self.stopping.clone());
        let client = open(client, self.public(door::CLIENT));
        let (peer, admin) = (open(peer, self.private()), open(admin, self.public(door::ADMIN)));
        async {
            tokio::join!(client, peer, admin);
        }
    }
}
