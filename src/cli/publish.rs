//! `pub`: events from an argument, a file, stdin, or made up.

use std::cell::Cell;
use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use base64::prelude::*;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

use super::args::{Common, Format, Publish};
use super::connect;
use super::exit::{Exit, Failure};
use super::output;
use crate::client::{AckRange, Fate, LaneChoice, PublishError, PublishOptions, Publisher};
use crate::types::{DedupKey, Event, EventBytes, Header, Rejection, Value};

/// After so long without an answer people are told that there is none.
const SILENCE: Duration = Duration::from_secs(2);
/// Events given to the lane in one go.
const CHUNK: usize = 512;

/// Publishes, and prints what became of each event.
pub async fn run(common: &Common, flags: &Publish) -> Result<Exit, Failure> {
    let mut source = Source::of(flags)?;
    let client = connect::client(common).await?;
    let patience = connect::patience(common)?;
    let options = PublishOptions {
        lane: flags.lane.clone().map_or(LaneChoice::Fresh, LaneChoice::Named),
        admin: flags.admin.clone(),
        first_sequence: flags.sequence,
        deadline: patience,
        ..PublishOptions::default()
    };
    let publisher = client.publisher(flags.channel.clone(), options).await?;
    if !publisher.channel_interest() {
        eprintln!(
            "warning: nobody is interested in channel '{0}' now; events stay only while its \
             history lasts (see `aqueduct channel show {0}`)",
            flags.channel
        );
    }
    if publisher.is_best_effort() {
        eprintln!(
            "note: channel '{}' is best effort: acknowledged events are in the leader's memory \
             alone, and lost with it",
            flags.channel
        );
    }
    let mut report = Report::new(common.output, flags.quiet, &publisher);
    pump(&publisher, &mut source, &mut report, patience).await?;
    Ok(report.close())
}

/// Gives events to the lane and reads answers, at the same time.
async fn pump(
    publisher: &Publisher,
    source: &mut Source,
    report: &mut Report,
    patience: Duration,
) -> Result<(), Failure> {
    let given = Cell::new(0u64);
    let mut failed = None;
    {
        let mut supply = pin!(async {
            while let Some(events) = source.next().await? {
                given.set(given.get() + events.len() as u64);
                publisher.publish_many(events).await.map_err(Stop::Lane)?;
            }
            Ok::<(), Stop>(())
        });
        let mut supplied = false;
        while !supplied || report.answered() < given.get() {
            tokio::select! { biased;
                outcome = &mut supply, if !supplied => {
                    supplied = true;
                    match outcome {
                        Ok(()) => {}
                        // What was given before is still answered.
                        Err(stop) => {
                            failed = Some(stop);
                            publisher.flush().await;
                            break;
                        }
                    }
                }
                acks = publisher.acks() => match acks {
                    Some(ranges) => report.add(&ranges),
                    None => break,
                },
                () = tokio::time::sleep(SILENCE), if report.answered() < given.get() => {
                    report.tell_of_silence(patience);
                }
            }
        }
    }
    match failed {
        None => Ok(()),
        Some(Stop::Input(error)) => Err(error.into()),
        Some(Stop::Lane(error)) => Err(error.rejection().clone().into()),
    }
}

enum Stop {
    Input(std::io::Error),
    Lane(PublishError),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Stop {
        Stop::Input(error)
    }
}

/// Where events come from.
enum Source {
    /// The same event so many times.
    Repeat { event: EventBytes, left: u64 },
    /// Each line of stdin.
    Lines { lines: Lines<BufReader<Stdin>>, number: u64, form: Form },
}

impl Source {
    fn of(flags: &Publish) -> Result<Source, Failure> {
        let form = Form::of(flags)?;
        let body: Vec<u8> = match (&flags.file, &flags.body, flags.count) {
            (Some(path), ..) => std::fs::read(path).map_err(|e| Failure::unreadable(path, &e))?,
            (None, Some(body), _) => body.clone().into_bytes(),
            (None, None, Some(_)) => vec![b'x'; flags.size.unwrap_or(64)],
            (None, None, None) => {
                let lines = BufReader::new(tokio::io::stdin()).lines();
                return Ok(Source::Lines { lines, number: 0, form });
            }
        };
        let event = form.event(body).map_err(Failure::usage)?;
        Ok(Source::Repeat { event, left: flags.count.unwrap_or(1) })
    }

    /// The next events, at least one; `None` at the end.
    async fn next(&mut self) -> std::io::Result<Option<Vec<EventBytes>>> {
        match self {
            Source::Repeat { left: 0, .. } => Ok(None),
            Source::Repeat { event, left } => {
                let count = (*left).min(CHUNK as u64);
                *left -= count;
                Ok(Some(vec![event.clone(); count as usize]))
            }
            Source::Lines { lines, number, form } => {
                let Some(line) = lines.next_line().await? else { return Ok(None) };
                *number += 1;
                let event = form.event(line.into_bytes());
                let named = |why| std::io::Error::other(format!("line {number}: {why}"));
                Ok(Some(vec![event.map_err(named)?]))
            }
        }
    }
}

/// How a body becomes an event.
pub enum Form {
    /// It is the body of events like this one.
    Body(Box<Event>),
    /// It is a CloudEvent.
    CloudEvent,
}

impl Form {
    /// It is the body of an event that says nothing else.
    pub fn plain() -> Form {
        Form::Body(Box::default())
    }

    fn of(flags: &Publish) -> Result<Form, Failure> {
        if flags.cloud_event {
            return Ok(Form::CloudEvent);
        }
        let (start_ms, stop_ms) = (flags.start_time.unwrap_or(0), flags.stop_time.unwrap_or(0));
        if stop_ms > 0 && stop_ms <= start_ms {
            let message = format!("stop_time {stop_ms} is not after start_time {start_ms}");
            return Err(Failure::usage(message).hint("such events would expire undelivered"));
        }
        if flags.id.is_some() && flags.body.is_none() && flags.file.is_none() {
            return Err(Failure::usage("--id is the id of one event: give its body, or --file"));
        }
        let id = flags.id.iter().map(|id| ("id".to_string(), Value::Text(id.clone())));
        let header = Header {
            domain: flags.domain.clone(),
            kind: flags.kind.clone(),
            name: flags.event_name.clone(),
            variable: flags.header.iter().cloned().chain(id).collect(),
            fields: flags.field.clone(),
        };
        Ok(Form::Body(Box::new(Event {
            priority: flags.priority.unwrap_or(0),
            timeout_ms: flags.event_timeout.unwrap_or(0),
            start_ms,
            stop_ms,
            dedup: flags.id.as_ref().map(|id| DedupKey::of("", id)),
            header,
            ..Event::default()
        })))
    }

    /// The event of a body, or why it is none.
    pub fn event(&self, body: Vec<u8>) -> Result<EventBytes, String> {
        let event = match self {
            Form::Body(like) => Event { body: body.into(), ..(**like).clone() },
            Form::CloudEvent => Event::from_cloud_event(&body)
                .map_err(|why| format!("this is no CloudEvent 1.0: {why}"))?,
        };
        event.encode().map_err(|why| why.to_string())
    }
}

/// Prints answers and counts them.
pub struct Report {
    format: Format,
    quiet: bool,
    lane: String,
    best_effort: bool,
    acked: u64,
    refused: u64,
    unknown: u64,
    last_refusal: Option<Rejection>,
}

impl Report {
    /// Nothing was answered yet.
    pub fn new(format: Format, quiet: bool, publisher: &Publisher) -> Report {
        Report {
            format,
            quiet,
            lane: publisher.lane().to_string(),
            best_effort: publisher.is_best_effort(),
            acked: 0,
            refused: 0,
            unknown: 0,
            last_refusal: None,
        }
    }

    fn answered(&self) -> u64 {
        self.acked + self.refused + self.unknown
    }

    /// Prints answers.
    pub fn add(&mut self, ranges: &[AckRange]) {
        let mut out = std::io::stdout().lock();
        for range in ranges {
            let count = u64::from(range.count);
            match &range.fate {
                Fate::Accepted { first_seq, duplicate } => {
                    self.acked += count;
                    for i in (0..count).filter(|_| !self.quiet) {
                        // A place that is forgotten is 0 for all of them.
                        let seq = if *first_seq == 0 { 0 } else { first_seq + i };
                        self.line(&mut out, seq, range.first_sequence + i, *duplicate);
                    }
                }
                Fate::Refused(rejection) => {
                    self.refused += count;
                    self.last_refusal = Some(rejection.clone());
                }
                Fate::Unknown(rejection) => {
                    self.unknown += count;
                    self.last_refusal = Some(rejection.clone());
                }
            }
        }
    }

    fn line(&self, out: &mut impl Write, seq: u64, sequence: u64, duplicate: bool) {
        // A closed stdout (`| head`) is no reason to stop publishing.
        let _ = match self.format {
            Format::Table => {
                let note = if duplicate { ", was there already" } else { "" };
                writeln!(out, "accepted as {seq} (lane {}, sequence {sequence}{note})", self.lane)
            }
            _ => {
                let line = json!({"seq": seq, "lane": self.lane, "sequence": sequence, "duplicate": duplicate});
                writeln!(out, "{line}")
            }
        };
    }

    /// Says on stderr that answers are waited for, to people.
    fn tell_of_silence(&self, patience: Duration) {
        if matches!(self.format, Format::Table) {
            let why = self.last_refusal.as_ref().map_or(String::new(), |r| format!("; last: {r}"));
            let acked = self.acked;
            eprintln!(
                "waiting for answers, {acked} acked; each is given up after {patience:?}{why}"
            );
        }
    }

    /// Prints why something was not accepted, if so, and the closing line, which is the last.
    pub fn close(self) -> Exit {
        if let Some(rejection) = self.last_refusal.clone() {
            Failure::from(rejection).print(self.format);
        }
        let Report { acked, refused, unknown, .. } = self;
        let reliability = if self.best_effort { "best_effort" } else { "persistent" };
        match self.format {
            Format::Table if self.answered() == 1 && !self.quiet => {}
            Format::Table => {
                output::say(format_args!("{acked} acked, {refused} refused, {unknown} unknown"))
            }
            _ => output::say(json!({
                "acked": acked,
                "refused": refused,
                "unknown": unknown,
                "reliability": reliability,
            })),
        }
        match (unknown, refused) {
            (0, 0) => Exit::Ok,
            (0, _) => Exit::Refused,
            _ => Exit::Unknown,
        }
    }
}

/// The body of an event as JSON shows it.
pub fn body_base64(event: &EventBytes) -> String {
    BASE64_STANDARD.encode(event.body())
}
