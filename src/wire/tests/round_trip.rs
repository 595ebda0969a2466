//! Every message comes back as it was, and large events are shared on the way out and in.

use bytes::Bytes;
use proptest::prelude::*;

use super::examples;
use crate::types::{
    Code, Event, LaneId, Name, Opener, Outcome, Property, ProxyId, Qos, Rejection, SeqRange,
    SeqRanges, Stamp, Start, Subscription, Tenure, TypePattern,
};
use crate::wire::*;

fn back<T>((kind, parts): Encoded, decode: fn(u8, Bytes) -> Result<T, WireError>) -> T {
    decode(kind, parts.concat().into()).unwrap()
}

#[test]
fn every_example_comes_back() {
    for (name, message) in examples::client() {
        assert_eq!(back(message.encode(), ClientMessage::decode), message, "{name}");
    }
    for (name, message) in examples::server() {
        assert_eq!(back(message.encode(), ServerMessage::decode), message, "{name}");
    }
    for (name, encoded) in examples::handshake() {
        let again = match encoded.0 {
            1 => back(encoded.clone(), Hello::decode).encode(),
            _ => back(encoded.clone(), Greeting::decode).encode(),
        };
        assert_eq!(again, encoded, "{name}");
    }
}

#[test]
fn large_events_are_shared() {
    let event = Event::of_body(vec![5; 100_000]).encode().unwrap();
    let small = examples::delivery("small");
    let large = Delivery { event: event.clone(), ..small.clone() };
    let deliver = Deliver {
        consumer: 1,
        tenure: small.tenure,
        events: vec![small.clone(), large, small.clone(), small],
    };
    let (kind, parts) = deliver.encode();
    let sizes: Vec<_> = parts.iter().map(Bytes::len).collect();
    assert_eq!(sizes.len(), 3, "gathered, shared, gathered: {sizes:?}");
    assert_eq!(parts[1].as_ptr(), event.as_bytes().as_ptr());

    let body = Bytes::from(parts.concat());
    let inside = body.as_ptr_range();
    let ServerMessage::Deliver(got) = ServerMessage::decode(kind, body).unwrap() else {
        panic!("another kind");
    };
    assert_eq!(got, deliver);
    assert!(got.events.iter().all(|d| inside.contains(&d.event.as_bytes().as_ptr())));
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9_][a-zA-Z0-9._-]{0,20}".prop_map(|text| Name::new(text).unwrap())
}

fn lane() -> impl Strategy<Value = LaneId> {
    (any::<u64>(), any::<u32>()).prop_map(|(index, position)| LaneId { index, position })
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![Just(Start::New), Just(Start::All), any::<u64>().prop_map(Start::Seq)]
}

fn ranges() -> impl Strategy<Value = SeqRanges> {
    let edge = prop_oneof![0u64..100, any::<u64>(), u64::MAX - 50..=u64::MAX];
    prop::collection::vec((edge, 0u64..9), 0..8).prop_map(|items| {
        let range =
            |(first, more): (u64, u64)| SeqRange { first, last: first.saturating_add(more) };
        items.into_iter().map(range).collect()
    })
}

fn rejection() -> impl Strategy<Value = Rejection> {
    (".{0,30}", ".{0,30}", any::<Option<u64>>()).prop_map(|(message, hint, expected)| Rejection {
        expected,
        ..Rejection::new(Code::ChannelFull, message).hint(hint)
    })
}

fn subscription() -> impl Strategy<Value = Subscription> {
    let pattern =
        "[a-z*]{1,9}(::[a-z*]{0,9})?".prop_map(|text| text.parse::<TypePattern>().unwrap());
    prop::collection::vec(pattern, 0..4).prop_map(|patterns| patterns.into_iter().collect())
}

fn target() -> impl Strategy<Value = AttachTarget> {
    prop_oneof![
        (start(), any::<Option<u64>>(), subscription()).prop_map(|(start, resume_after, types)| {
            AttachTarget::Volatile { start, resume_after, types }
        }),
        (name(), any::<Option<u32>>(), start(), subscription()).prop_map(
            |(name, wait, start, types)| {
                let (admin, mut qos) = (Some(name.clone()), Qos::default());
                qos.set(Property::AckWait, wait.map(i64::from));
                AttachTarget::Durable { name, start, admin, qos, types }
            }
        ),
    ]
}

fn settle() -> impl Strategy<Value = Settle> {
    let nack =
        (ranges(), any::<u64>()).prop_map(|(sequences, delay_ms)| Nack { sequences, delay_ms });
    let term = (ranges(), ".{0,9}").prop_map(|(sequences, reason)| Terminate { sequences, reason });
    let parts = (prop::collection::vec(nack, 0..3), prop::collection::vec(term, 0..3));
    (any::<u64>(), any::<u64>(), ranges(), parts, ranges()).prop_map(
        |(batch, proxy, acks, (nacks, terms), touches)| Settle {
            batch,
            proxy: ProxyId(proxy),
            fencing: proxy / 3,
            acks,
            nacks,
            terms,
            touches,
        },
    )
}

fn client_message() -> impl Strategy<Value = ClientMessage> {
    let publish = (lane(), any::<u32>(), any::<u64>(), 1usize..40).prop_map(
        |(lane, epoch, first, events)| {
            let mut block = EventsBlockBuilder::new();
            (0..events).for_each(|_| block.push(&examples::event("some body")));
            Publish::new(lane, epoch, first, block.finish()).into()
        },
    );
    let attach = (any::<u32>(), any::<u32>(), name(), target(), any::<Option<(u32, u64)>>());
    let attach = attach.prop_map(|(request, consumer, channel, target, push)| {
        let mode = match push {
            Some((credit_events, credit_bytes)) => FlowMode::Push { credit_events, credit_bytes },
            None => FlowMode::Pull,
        };
        Attach { request, consumer, channel, target, mode, client: u64::from(request) << 9 }.into()
    });
    let opener = (any::<u64>(), any::<u64>());
    let opener = opener.prop_map(|(client, attempt)| Opener { client, attempt });
    let open =
        (any::<u32>(), name(), name(), opener).prop_map(|(request, channel, lane, opener)| {
            OpenLane { request, channel, target: LaneTarget::Named(lane), opener, admin: None }
                .into()
        });
    prop_oneof![publish, attach, open, settle().prop_map(ClientMessage::from)]
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let letter = (name(), name(), any::<u64>(), any::<u32>(), ".{0,20}").prop_map(
        |(channel, proxy, seq, attempts, reason)| {
            Box::new(DeadLetter { channel: channel.dead_letter(), proxy, seq, attempts, reason })
        },
    );
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>());
    let event = prop::collection::vec(any::<u8>(), 0..2000)
        .prop_map(|body| Event::of_body(body).encode().unwrap());
    (numbers, lane(), any::<bool>(), prop::option::of(letter), event).prop_map(
        |((seq, sequence, delivery, accepted), lane, maybe_redelivered, dead_letter, event)| {
            let accepted = Stamp(accepted);
            Delivery {
                seq,
                tenure: Tenure(0),
                lane,
                sequence,
                delivery,
                maybe_redelivered,
                fencing: seq / 5,
                accepted,
                dead_letter,
                event,
            }
        },
    )
}

fn server_message() -> impl Strategy<Value = ServerMessage> {
    let deliver = (any::<u32>(), any::<u64>(), prop::collection::vec(delivery(), 0..6)).prop_map(
        |(consumer, tenure, mut events)| {
            let tenure = Tenure(tenure);
            events.iter_mut().for_each(|delivery: &mut Delivery| delivery.tenure = tenure);
            Deliver { consumer, tenure, events }.into()
        },
    );
    let run = (any::<u64>(), any::<u32>(), any::<u64>(), any::<bool>()).prop_map(
        |(first_sequence, count, first_seq, duplicate)| AckRun {
            first_sequence,
            count,
            first_seq,
            duplicate,
        },
    );
    let answer = (prop::collection::vec(run, 0..5), prop::option::of(rejection()));
    let ack = (lane(), any::<u32>(), answer).prop_map(|(lane, epoch, (runs, refused))| {
        PublishAck { lane, epoch, runs, refused }.into()
    });
    let outcome = prop::option::of(prop::sample::select(Outcome::ALL.to_vec()));
    let already = (any::<u64>(), outcome).prop_map(|(seq, outcome)| (SeqRange::one(seq), outcome));
    let confirmed = (any::<u64>(), any::<u64>(), prop::collection::vec(already, 0..5)).prop_map(
        |(batch, settled, already)| {
            let refused = None;
            SettleConfirmed { batch, proxy: ProxyId(batch), settled, already, refused }.into()
        },
    );
    let failed = (any::<u32>(), rejection())
        .prop_map(|(request, rejection)| Failed { request, rejection }.into());
    prop_oneof![deliver, ack, confirmed, failed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn client_messages_come_back(message in client_message()) {
        prop_assert_eq!(back(message.encode(), ClientMessage::decode), message);
    }

    #[test]
    fn server_messages_come_back(message in server_message()) {
        prop_assert_eq!(back(message.encode(), ServerMessage::decode), message);
    }
}
