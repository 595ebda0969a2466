//! Quality of service, admins and proxies, asked of a node over its socket.

use super::*;
use crate::types::{Level, Property, Rejection, Side};
use crate::wire::admin::{Origin, PropertyValue, ProxyWish, QosWish, Target};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, AdminError>) -> Rejection {
    match outcome.unwrap_err() {
        AdminError::Refused(rejection) => rejection,
        other => panic!("no refusal: {other}"),
    }
}

fn proxy_wish(text: &str, qos: &[(&str, &str)]) -> ProxyWish {
    let qos = qos.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    ProxyWish {
        name: name(text),
        start: Default::default(),
        admin: Some(name("fast")),
        qos: qos.collect(),
        types: Default::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quality_is_set_inherited_checked_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = start(founder(&dir.path().join("1")));
    let ready = node.ready().await;
    let admin = admin(&ready.admin);
    let channel = name("orders");
    let limit = [(Property::MaxQueueLength, Some(1000))];
    let made = admin.create_channel(&channel, &limit).await.unwrap();
    assert_eq!(made.value.qos.get(Property::MaxQueueLength), Some(1000));

    let (qos, all) = ([(Property::OrderPolicy, Some(2))], Default::default());
    let fast = admin
        .create_admin(&channel, Side::Consumer, &name("fast"), &qos, &all)
        .await
        .unwrap()
        .value;
    assert_eq!((fast.admin.proxies, fast.cut.next_seq), (0, 1));
    let again = admin.create_admin(&channel, Side::Consumer, &name("fast"), &[], &all).await;
    let again = refusal(again);
    assert_eq!(again.code, Code::AdminExists);

    let wish = proxy_wish("p", &[("pacing_interval", "50")]);
    let proxy = admin.create_proxy(&channel, &wish).await.unwrap().value;
    assert!(proxy.created && proxy.proxy.admin == name("fast"), "{proxy:?}");
    assert!(!admin.create_proxy(&channel, &wish).await.unwrap().value.created);
    let other = refusal(admin.create_proxy(&channel, &proxy_wish("p", &[("timeout", "1")])).await);
    assert_eq!(other.code, Code::ProxyExists);

    // What is set for the admin holds for its proxy, which learns it at the cut.
    let target =
        Target::Admin { channel: channel.clone(), side: Side::Consumer, admin: name("fast") };
    let changes = [(Property::OrderPolicy, None), (Property::Timeout, Some(7000))];
    let set = admin.set_qos(&target, &changes).await.unwrap();
    assert!(set.value.cut.index > fast.cut.index && set.value.cut.index <= set.applied);
    let of_proxy = Target::Proxy { channel: channel.clone(), proxy: name("p") };
    let report = admin.qos(&of_proxy).await.unwrap().value;
    let line = |property| report.properties.iter().find(|line| line.property == property).unwrap();
    let timeout = line(Property::Timeout);
    assert_eq!(timeout.effective, PropertyValue::Number(7000));
    assert_eq!((timeout.own.as_ref(), timeout.effective_from), (None, Origin::Admin));
    assert_eq!(line(Property::OrderPolicy).effective_from, Origin::Default);
    assert_eq!(line(Property::PacingInterval).own, Some(PropertyValue::Number(50)));

    // Nothing changes by what is refused, nor by asking whether it would be.
    let wrong = [(Property::Timeout, Some(1)), (Property::MaxQueueLength, Some(1))];
    let refused = refusal(admin.set_qos(&of_proxy, &wrong).await);
    assert_eq!(refused.code, Code::InvalidQos);
    assert!(refused.message.contains("unavailable_property"), "{refused}");
    let wish = QosWish::from([("timeout".into(), "1".into()), ("colour".into(), "red".into())]);
    let verdict = admin.validate_qos(&of_proxy, &wish).await.unwrap().value;
    assert!(!verdict.ok && verdict.level == Level::Proxy, "{verdict:?}");
    assert_eq!(verdict.errors.len(), 1);
    assert_eq!(
        (&verdict.errors[0].code[..], &verdict.errors[0].property[..]),
        ("bad_property", "colour")
    );
    assert!(verdict.possible.iter().any(|line| line.property == Property::OrderPolicy));
    assert_eq!(admin.qos(&of_proxy).await.unwrap().value, report);

    // Suspended by itself, or by its admin.
    for target in [&of_proxy, &target] {
        assert!(admin.suspend(target, true).await.unwrap().value.suspended);
    }
    let whole = Target::Channel { channel: channel.clone() };
    assert_eq!(refusal(admin.suspend(&whole, true).await).code, Code::NotAllowed);
    let report = admin.channel(&channel).await.unwrap().value;
    assert!(report.proxies[0].suspended, "{report:?}");
    let admins = admin.admins(&channel).await.unwrap().value.admins;
    assert_eq!(admins, report.admins);
    let states: Vec<_> = admins.iter().map(|a| (a.name.as_str(), a.proxies, a.suspended)).collect();
    assert_eq!(
        states,
        [("default", 0, false), ("fast", 1, true), ("default", 0, false)],
        "both sides"
    );

    let gone = admin.remove_admin(&channel, Side::Consumer, &name("fast")).await.unwrap().value;
    assert_eq!(gone.admin.proxies, 1);
    assert!(admin.channel(&channel).await.unwrap().value.proxies.is_empty());
    assert_eq!(refusal(admin.qos(&target).await).code, Code::UnknownAdmin);
    assert_eq!(refusal(admin.qos(&of_proxy).await).code, Code::UnknownProxy);
    node.stop().await.unwrap();
}
