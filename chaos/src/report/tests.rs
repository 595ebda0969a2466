//! A whole report of a run made up for it. With `AQUEDUCT_REPORT_DIR` it is written there, to be
//! looked at.

use std::path::PathBuf;

use crate::history::*;
use crate::verdict::{Coverage, Verdict as Judged, Violation, Word};

const SECOND: u64 = 1_000_000;

/// Writes records in order of time.
struct Recorder(Vec<Record>);

impl Recorder {
    fn add(&mut self, at: u64, by: &str, what: What) {
        self.0.push(Record { at, by: by.into(), what });
    }

    fn fault(&mut self, name: &str, target: u64, begin: u64, end: u64) {
        for (at, stage) in [(begin, Stage::Begin), (end, Stage::End)] {
            let (fault, targets) = (name.to_string(), vec![target]);
            let detail = "drawn | from the seed".into();
            self.add(at, "nemesis", What::Fault { fault, targets, stage, detail });
        }
    }

    fn leads(&mut self, at: u64, node: u64, term: u64) {
        let view = NodeView { role: "leader".into(), term, ..NodeView::default() };
        self.add(at, "observer", What::Node { node, view });
    }
}

/// Faults of a run of two minutes: name, node, from and to in tenths of a second.
const FAULTS: [(&str, u64, u64, u64); 8] = [
    ("kill(leader)", 1, 100, 130),
    ("partition(one_way)", 2, 230, 300),
    ("kill(leader)", 2, 360, 380),
    ("pause(follower)", 3, 470, 530),
    ("slow_disk", 1, 560, 660),
    ("kill(leader)", 3, 700, 720),
    ("power_cut(all)", 1, 800, 830),
    ("loss(20 %)", 2, 860, 950),
];

/// How long nothing is acknowledged after a fault begins.
fn outage(name: &str) -> u64 {
    match name {
        name if name.starts_with("kill") => 900_000,
        name if name.starts_with("power") => 3_400_000,
        _ => 0,
    }
}

fn history(events: u64) -> Vec<Record> {
    let mut recorder = Recorder(Vec::new());
    let mut random = fastrand::Rng::with_seed(3);
    let phases = [Phase::Setup, Phase::Faults, Phase::Heal, Phase::Drain, Phase::End];
    for (phase, at) in phases.into_iter().zip([0, 2, 97, 110, 119]) {
        recorder.add(at * SECOND, "run", What::Phase { phase });
    }
    for consumer in ["worker", "audit"] {
        let (consumer, channel) = (consumer.into(), "default".into());
        let (after, max_deliveries, ack_wait_ms, max_in_flight) = (0, None, 30_000, 4_096);
        let what = What::Subscribed {
            consumer,
            channel,
            after,
            max_deliveries,
            ack_wait_ms,
            max_in_flight,
            qos: Wish::new(),
        };
        recorder.add(SECOND, "setup", what);
    }
    for (term, (at, node)) in [(0, 1), (110, 2), (371, 3), (712, 1), (834, 2)].iter().enumerate() {
        recorder.leads(at * SECOND / 10 + 1000, *node, term as u64 + 1);
    }
    for (name, node, begin, end) in FAULTS {
        recorder.fault(name, node, begin * SECOND / 10, end * SECOND / 10);
        if outage(name) > 0 {
            recorder.add(begin * SECOND / 10 + 50_000, "observer", What::NodeDown { node });
        }
    }
    for event in 1..=events {
        publish(&mut recorder, &mut random, event, events);
    }
    statuses(&mut recorder);
    recorder.0.sort_by_key(|record| record.at);
    recorder.0
}

fn publish(recorder: &mut Recorder, random: &mut fastrand::Rng, event: u64, events: u64) {
    let at = 2 * SECOND + event * 107 * SECOND / events;
    let mut latency = 800 + (random.f64().powi(8) * 40_000.0) as u64;
    for (name, _, begin, end) in FAULTS {
        let (begin, end) = (begin * SECOND / 10, end * SECOND / 10);
        if (begin..begin + outage(name)).contains(&at) {
            latency += begin + outage(name) - at;
        } else if (begin..end).contains(&at) && name.starts_with("slow") {
            latency = latency * 12 + 20_000;
        }
    }
    let (channel, by) = ("default".to_string(), "supplier-1");
    let lane = "7".to_string();
    let what = What::Publish {
        event,
        channel,
        lane,
        number: event,
        digest: 0,
        bytes: 256,
        asks: Asks::default(),
    };
    recorder.add(at, by, what);
    let outcome = Outcome::Ok(Place { seq: event, duplicate: false });
    recorder.add(at + latency, by, What::Published { event, outcome });
    for consumer in ["worker", "audit"] {
        if event == 5_000 && consumer == "audit" {
            continue;
        }
        let mut times = vec![at + latency + random.u64(200..3_000)];
        if latency > 500_000 || random.u32(0..200) == 0 {
            times.push(at + latency + random.u64(2_000_000..2_500_000));
        }
        for (nth, at) in times.into_iter().enumerate() {
            let what = What::Delivered {
                consumer: consumer.into(),
                channel: "default".into(),
                seq: event,
                lane: 7,
                number: event,
                event: Some(event),
                digest: 0,
                delivery: nth as u32 + 1,
                marked: nth > 0,
                tenure: 0,
                accepted_us: 0,
            };
            recorder.add(at, consumer, what);
        }
    }
}

fn statuses(recorder: &mut Recorder) {
    for half in 4..236u64 {
        let backlog = |peak: u64| match half % 40 {
            phase @ 0..20 => phase * peak / 20,
            phase => (40 - phase) * peak / 20,
        };
        let proxy = |name: &str, pending: u64| {
            let pending = if half > 222 { 0 } else { pending };
            ProxyView { name: name.into(), pending, ..ProxyView::default() }
        };
        let proxies = vec![proxy("worker", backlog(1_200)), proxy("audit", backlog(450))];
        let channels = vec![ChannelView { proxies, ..ChannelView::default() }];
        let view = ClusterView { channels, linearizable: true, ..ClusterView::default() };
        let what = What::Status { ask: half, outcome: Outcome::Ok(view) };
        recorder.add(half * SECOND / 2, "observer", what);
    }
}

fn summary(verdict: Word) -> Judged {
    let coverage = [("leader_kills", 3), ("acked", 9_999), ("power_cuts", 1), ("restarts", 7)];
    let required = [("leader_kills", 3), ("acked", 5_000), ("power_cuts", 2)];
    let named = |all: &[(&str, u64)]| -> Coverage {
        all.iter().map(|(name, count)| (name.to_string(), *count)).collect()
    };
    let violation = Violation {
        invariant: "acknowledged-kept".into(),
        at: 119 * SECOND,
        detail: "audit never got 1 acknowledged events, such as [5000]; its ledger accounts for 0 \
                 of them"
            .into(),
    };
    Judged {
        scenario: "everything-at-once <made up>".into(),
        seed: 42,
        verdict,
        acked: 9_999,
        lost: 1,
        unknown: 0,
        violations: vec![violation],
        coverage: named(&coverage),
        required: named(&required),
        left_out: vec!["clock jumps: no preload shim here".into()],
        reproduce: "aqueduct-chaos run everything-at-once --seed 42".into(),
        failover_ms: vec![901, 1_250, 980],
        rejoin_ms: Vec::new(),
        error: None,
        faults_failed: vec!["begin kill(leader): nobody leads".into()],
        nothing_to_judge: vec!["stored-whole".into()],
        seconds: 120,
        nodes: 3,
    }
}

#[test]
fn a_report_says_what_happened() {
    let kept = std::env::var_os("AQUEDUCT_REPORT_DIR").map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let dir = kept.clone().unwrap_or(temporary.path().to_path_buf());
    let mut writer = Writer::create(&dir.join("history.jsonl")).unwrap();
    let events = if kept.is_some() { 100_000 } else { 10_000 };
    history(events).iter().for_each(|record| writer.write(record).unwrap());
    writer.finish().unwrap();
    super::write(&dir, &summary(Word::Fail)).unwrap();

    let gathered = super::gather(&dir.join("history.jsonl")).unwrap();
    assert_eq!(gathered.acks.buckets.iter().sum::<u64>(), events);
    assert_eq!(gathered.undelivered.buckets.iter().sum::<u64>(), 1);
    assert!(gathered.duplicates.buckets.iter().sum::<u64>() > events / 100);
    assert_eq!(gathered.faults.len(), FAULTS.len());
    assert!(gathered.faults.iter().all(|fault| fault.end.is_some()));

    let html = std::fs::read_to_string(dir.join("report.html")).unwrap();
    assert_eq!(html.matches("<svg").count(), 7);
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    assert!(!html.contains("NaN") && !html.contains("<made up>") && !html.contains("http"));
    for text in [
        "acknowledged-kept",
        "everything-at-once &lt;made up&gt;",
        "not enough",
        "heal at",
        "a fault went wrong: begin kill",
        "Nothing to judge: stored-whole",
    ] {
        assert!(html.contains(text), "{text}");
    }
    let markdown = std::fs::read_to_string(dir.join("report.md")).unwrap();
    for text in [
        "# everything-at-once",
        ": fail",
        "| lost | 1 |",
        "3 kills: median",
        "drawn \\| from",
        "a fault went wrong: begin kill",
        "Nothing to judge: stored-whole",
    ] {
        assert!(markdown.contains(text), "{text}: {markdown}");
    }
}

#[test]
fn an_empty_history_has_a_report() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("history.jsonl"), "").unwrap();
    let error = Some("no node came up <at all>".into());
    let run = Judged { violations: Vec::new(), error, ..summary(Word::Unknown) };
    super::write(dir.path(), &run).unwrap();
    let html = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(
        html.contains("None in the invariants that had something to judge")
            && !html.contains("NaN")
    );
    assert!(html.contains("no node came up &lt;at all&gt;"));
    std::fs::remove_file(dir.path().join("history.jsonl")).unwrap();
    let error = super::write(dir.path(), &run).unwrap_err();
    assert!(error.to_string().contains("history.jsonl"), "{error}");
}
