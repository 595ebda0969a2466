use super::*;
use crate::history::Wish;
use crate::invariants::testing::*;

fn one() -> DuplicatesJustified {
    DuplicatesJustified::new(&Rules::default())
}

/// Long enough for everything before to be no cause of anything after.
const LONG: u64 = 20_000;

/// One event, delivered once, in a cluster at peace.
fn once() -> Story {
    story().leads(1, 1).subscribed(0).attached().wait(LONG).delivered(1, 1).wait(10)
}

#[test]
fn catches_a_duplicate_without_a_cause() {
    let says = "w got seq 1 again at 21010 ms (repeat 1; first at 21000 ms)";
    catches(one(), once().redelivered(1, 1, 2), says);
    let goes_on = once().redelivered(1, 1, 2).wait(2001).delivered(2, 2).leads(2, 2);
    catches(one(), goes_on, says);
}

#[test]
fn each_cause_justifies_one() {
    let failed = |outcome| once().settled(&[1], Verdict::Ack, outcome);
    let causes = [
        ("duplicates_nacked", once().settle(&[1], Verdict::Nack)),
        ("duplicates_unsettled", failed(Outcome::Unknown("timeout".into()))),
        ("duplicates_unsettled", failed(Outcome::Fail("tenure_lost".into()))),
        ("duplicates_leadership", once().leads(2, 2)),
        ("duplicates_clients", once().detached()),
        ("duplicates_clients", once().attached()),
        ("duplicates_leases", once().wait(15_000)),
    ];
    for (cause, story) in causes {
        let story = story.redelivered(1, 1, 2);
        let mut judged = one();
        story.records.iter().for_each(|record| judged.observe(record).unwrap());
        assert_eq!(judged.finish(true), Vec::<String>::new(), "{cause}");
        assert!(judged.figures().contains(&(cause, 1)), "{cause}: {:?}", judged.figures());
        catches(one(), story.redelivered(1, 1, 3), "repeat 2");
    }
}

#[test]
fn a_nack_of_another_event_justifies_nothing() {
    catches(one(), once().settle(&[2], Verdict::Nack).redelivered(1, 1, 2), "nothing justifies");
}

#[test]
fn a_cause_may_be_noticed_later() {
    holds(one(), once().redelivered(1, 1, 1).wait(1500).leads(2, 2));
    catches(one(), once().redelivered(1, 1, 1).wait(2500).leads(2, 2), "nothing justifies");
}

#[test]
fn a_fault_under_way_justifies_any_number() {
    let again = |story: Story| story.redelivered(1, 1, 2).redelivered(1, 1, 3);
    holds(one(), again(once().fault(Stage::Begin)));
    holds(one(), again(once().fault(Stage::Begin).fault(Stage::Begin).fault(Stage::End)));
    holds(one(), again(once().fault(Stage::Begin).fault(Stage::End).wait(14_000)));
    let long_ago = story().fault(Stage::Begin).fault(Stage::End).wait(LONG).delivered(1, 1);
    catches(one(), long_ago.redelivered(1, 1, 2), "nothing justifies");
}

#[test]
fn catches_two_unmarked_deliveries() {
    let story = once().settle(&[1], Verdict::Nack);
    catches(one(), story.clone().delivered(1, 1), "seq 1 twice, and neither is marked");
    // In the order in which they were read, not sent.
    let swapped = once().settle(&[2], Verdict::Nack).by("w/2").redelivered(2, 2, 2);
    holds(one(), swapped.by("w/1").delivered(2, 2));
}

#[test]
fn catches_more_deliveries_than_allowed() {
    let (consumer, channel) = ("w".into(), "c".into());
    let (after, max_deliveries, ack_wait_ms, max_in_flight) = (0, Some(2), 30_000, 4_096);
    let subscribed = What::Subscribed {
        consumer,
        channel,
        after,
        max_deliveries,
        ack_wait_ms,
        max_in_flight,
        qos: Wish::new(),
    };
    let story = once().then(subscribed).settle(&[1], Verdict::Nack).redelivered(1, 1, 2);
    holds(one(), story.clone());
    let story = story.settle(&[1], Verdict::Nack);
    catches(one(), story.clone().redelivered(1, 1, 3), "delivery 3, with at most 2 and 0 returns");
    holds(one(), story.detached().redelivered(1, 1, 3));
}
