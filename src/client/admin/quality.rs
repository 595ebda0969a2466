//! Quality of service, admins and proxies.

use super::{AdminClient, AdminError, Kind};
use crate::transport::Net;
use crate::types::{Name, QosChange, Side, Subscription, TypePattern};
use crate::wire::admin::{
    AdminChanged, AdminList, AdminServiceClient, Answer, ChannelReport, OfferedTypes, ProxyCreated,
    ProxyWish, QosReport, QosSet, QosValidation, QosWish, Subscribed, Suspension, Target, qos_wish,
};

impl<N: Net> AdminClient<N> {
    /// Creates a channel, and sets this for it.
    pub async fn create_channel(
        &self,
        name: &Name,
        qos: &[QosChange],
    ) -> Result<Answer<ChannelReport>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let (name, qos) = (name.clone(), qos_wish(qos));
            async move { s.create_channel(c, name, qos).await }
        };
        self.call(Kind::Change, ask).await
    }

    /// What is set for a channel, an admin, a proxy or a lane, and what it inherits.
    pub async fn qos(&self, target: &Target) -> Result<Answer<QosReport>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let target = target.clone();
            async move { s.qos(c, target).await }
        };
        self.call(Kind::Question, ask).await
    }

    /// Sets properties, or inherits them again: all of it, or nothing.
    pub async fn set_qos(
        &self,
        target: &Target,
        changes: &[QosChange],
    ) -> Result<Answer<QosSet>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let (target, wish) = (target.clone(), qos_wish(changes));
            async move { s.set_qos(c, target, wish).await }
        };
        self.call(Kind::Change, ask).await
    }

    /// Whether properties could be set so; changes nothing.
    pub async fn validate_qos(
        &self,
        target: &Target,
        wish: &QosWish,
    ) -> Result<Answer<QosValidation>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let (target, wish) = (target.clone(), wish.clone());
            async move { s.validate_qos(c, target, wish).await }
        };
        self.call(Kind::Question, ask).await
    }

    /// The admins of a channel, of both sides.
    pub async fn admins(&self, channel: &Name) -> Result<Answer<AdminList>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let channel = channel.clone();
            async move { s.admins(c, channel).await }
        };
        self.call(Kind::Question, ask).await
    }

    /// Creates an admin.
    pub async fn create_admin(
        &self,
        channel: &Name,
        side: Side,
        name: &Name,
        qos: &[QosChange],
        types: &Subscription,
    ) -> Result<Answer<AdminChanged>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let (channel, name, qos) = (channel.clone(), name.clone(), qos_wish(qos));
            let types = types.clone();
            async move { s.create_admin(c, channel, side, name, qos, types).await }
        };
        self.call(Kind::Change, ask).await
    }

    /// Removes an admin with its proxies or lanes; what it was.
    pub async fn remove_admin(
        &self,
        channel: &Name,
        side: Side,
        name: &Name,
    ) -> Result<Answer<AdminChanged>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let (channel, name) = (channel.clone(), name.clone());
            async move { s.remove_admin(c, channel, side, name).await }
        };
        self.call(Kind::Change, ask).await
    }

    /// Creates a durable proxy, or finds the one that is as asked for: harmless to repeat.
    pub async fn create_proxy(
        &self,
        channel: &Name,
        wish: &ProxyWish,
    ) -> Result<Answer<ProxyCreated>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let (channel, wish) = (channel.clone(), wish.clone());
            async move { s.create_proxy(c, channel, wish).await }
        };
        self.call(Kind::Question, ask).await
    }

    /// Changes which types of events an admin or a proxy wants: harmless to repeat.
    pub async fn subscribe(
        &self,
        target: &Target,
        add: &[TypePattern],
        remove: &[TypePattern],
    ) -> Result<Answer<Subscribed>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let (target, add, remove) = (target.clone(), add.to_vec(), remove.to_vec());
            async move { s.subscribe(c, target, add, remove).await }
        };
        self.call(Kind::Question, ask).await
    }

    /// The types of a channel's retained events.
    pub async fn offered_types(&self, channel: &Name) -> Result<Answer<OfferedTypes>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let channel = channel.clone();
            async move { s.offered_types(c, channel).await }
        };
        self.call(Kind::Question, ask).await
    }

    /// Suspends an admin, a proxy or a lane, or ends that.
    pub async fn suspend(
        &self,
        target: &Target,
        suspended: bool,
    ) -> Result<Answer<Suspension>, AdminError> {
        let ask = |s: AdminServiceClient, c| {
            let target = target.clone();
            async move { s.suspend(c, target, suspended).await }
        };
        self.call(Kind::Change, ask).await
    }
}
