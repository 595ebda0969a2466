//! `dead`: what consumers gave up.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::args::{Common, Dead, Letters};
use super::exit::{Exit, Failure};
use super::receive::{add_event, body_text, rfc3339};
use super::{connect_admin, output};
use crate::client::AdminClient;
use crate::types::{EventBytes, Name, Seq, SeqRange, SeqRanges, limits};
use crate::wire::admin::{
    Answer, LetterList, LetterOutcome, LetterReport, LetterResult, LetterShown, LettersDone,
};

/// Runs a `dead` command.
pub async fn run(common: &Common, command: &Dead) -> Result<Exit, Failure> {
    let admin = connect_admin(common)?;
    match command {
        Dead::Ls { channel, limit, from } => {
            let answer = list(&admin, channel, *from, *limit).await?;
            output::result(common.output, &answer, table);
        }
        Dead::Show { channel, seq } => {
            let answer = admin.dead_letter(channel, *seq).await?;
            let (shown, people) = show(&answer.value)?;
            output::result(common.output, &shown, |_| people);
        }
        Dead::Replay { letters, to_all } => {
            let end = End::Replay { to_all: *to_all };
            return finish(common, &admin, letters, end).await;
        }
        Dead::Drop(letters) => return finish(common, &admin, letters, End::Drop).await,
    }
    Ok(Exit::Ok)
}

/// As many as asked for, in as many questions as that takes.
async fn list(
    admin: &AdminClient,
    channel: &Name,
    from: Seq,
    limit: u64,
) -> Result<Answer<LetterList>, Failure> {
    let page = |left: u64| left.min(limits::LETTERS_PER_COMMAND_MAX) as u32;
    let mut answer = admin.dead_letters(channel, from, page(limit)).await?;
    loop {
        let letters = &mut answer.value.letters;
        let left = limit.saturating_sub(letters.len() as u64);
        let Some(last) = letters.last().map(|letter| letter.seq).filter(|_| left > 0) else {
            return Ok(answer);
        };
        let more = admin.dead_letters(channel, last.saturating_add(1), page(left)).await?;
        if more.value.letters.is_empty() {
            return Ok(answer);
        }
        letters.extend(more.value.letters);
    }
}

fn table(answer: &Answer<LetterList>) -> String {
    let LetterList { ledger, letters } = &answer.value;
    if ledger.kept == 0 {
        return format!("no dead letters in {}{}", ledger.dead_channel, ended(answer));
    }
    let mut table = output::table(&[
        "seq",
        "from",
        "origin seq",
        "consumer",
        "attempts",
        "size",
        "age",
        "reason",
    ]);
    for letter in letters {
        table.add_row(vec![
            letter.seq.to_string(),
            origin(letter),
            letter.origin_seq.to_string(),
            consumer(letter),
            letter.attempts.to_string(),
            output::bytes(letter.size.into()),
            age(letter),
            letter.reason.clone(),
        ]);
    }
    let (shown, kept) = (output::count(letters.len() as u64), output::count(ledger.kept));
    let dead = &ledger.dead_channel;
    format!("{table}\n{shown} of {kept} dead letters in {dead}{}", ended(answer))
}

/// What became of those that are not there any more, where there are such.
fn ended(answer: &Answer<LetterList>) -> String {
    let ledger = &answer.value.ledger;
    let counts = [
        (ledger.replayed, "replayed"),
        (ledger.dropped, "dropped"),
        (ledger.pushed_out, "pushed out by later ones"),
        (ledger.lost, "lost"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    counts.map(|(count, what)| format!(", {} {what}", output::count(*count))).collect()
}

fn origin(letter: &LetterReport) -> String {
    letter.channel.as_ref().map_or("(deleted)".into(), Name::to_string)
}

fn consumer(letter: &LetterReport) -> String {
    let gone = if letter.proxy_gone { " (deleted)" } else { "" };
    format!("{}{gone}", letter.proxy)
}

fn age(letter: &LetterReport) -> String {
    humantime::format_duration(Duration::from_secs(letter.age_ms / 1000)).to_string()
}

/// A letter as JSON, like an event that was received, and for people.
fn show(shown: &LetterShown) -> Result<(Value, String), Failure> {
    let LetterShown { letter, lane, sequence, event_base64 } = shown;
    let bytes = BASE64_STANDARD.decode(event_base64).map_err(anyhow::Error::from)?;
    let event = EventBytes::check(bytes.into(), limits::EVENT_BYTES_CEILING);
    let event = event.map_err(anyhow::Error::from)?;
    let mut document = serde_json::to_value(letter).map_err(anyhow::Error::from)?;
    document["lane"] = json!(lane);
    document["sequence"] = json!(sequence);
    document["given_up"] = json!(rfc3339(letter.given_up_us));
    add_event(&mut document, &event);
    let mut people = format!(
        "letter     {}\nfrom       {}, sequence {} (lane {lane}, sequence {sequence})\n\
         consumer   {}, after {} deliveries on record\nreason     {}\ngiven up   {}, {} ago\n\
         size       {}\n",
        letter.seq,
        origin(letter),
        letter.origin_seq,
        consumer(letter),
        letter.attempts,
        letter.reason,
        rfc3339(letter.given_up_us),
        age(letter),
        output::bytes(letter.size.into()),
    );
    for key in ["domain", "type", "name", "header", "fields", "priority", "timeout_ms"] {
        if let Some(value) = document.get(key).filter(|value| !is_empty(value)) {
            people.push_str(&format!("{key:<11}{value}\n"));
        }
    }
    people.push_str(&format!("\n{}", body_text(&event)));
    Ok((document, people))
}

fn is_empty(value: &Value) -> bool {
    value.as_str() == Some("") || value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// How letters end.
#[derive(Clone, Copy)]
enum End {
    Replay { to_all: bool },
    Drop,
}

async fn finish(
    common: &Common,
    admin: &AdminClient,
    asked: &Letters,
    end: End,
) -> Result<Exit, Failure> {
    let channel = &asked.channel;
    let done = match asked.all {
        true => end_all(admin, channel, end).await?,
        false => end_named(admin, channel, &asked.letters, end).await?,
    };
    let people = said(&done);
    output::result(common.output, &done, |_| people);
    Ok(if done.refused + done.unknown > 0 { Exit::Refused } else { Exit::Ok })
}

/// Those that were named, as many in one command as there may be.
async fn end_named(
    admin: &AdminClient,
    channel: &Name,
    letters: &[SeqRange],
    end: End,
) -> Result<LettersDone, Failure> {
    let named: SeqRanges = letters.iter().copied().collect();
    if named.count() > limits::DEAD_LETTERS_MAX {
        let message = format!("{} letters are more than a channel can have", named.count());
        return Err(Failure::usage(message).hint("--all takes those that are there"));
    }
    let mut done: Option<LettersDone> = None;
    let mut part = SeqRanges::new();
    for seq in named.iter().flat_map(|range| range.first..=range.last) {
        part.insert(seq);
        if part.count() == limits::LETTERS_PER_COMMAND_MAX {
            add(&mut done, end_some(admin, channel, &std::mem::take(&mut part), end).await?);
        }
    }
    if !part.is_empty() || done.is_none() {
        add(&mut done, end_some(admin, channel, &part, end).await?);
    }
    Ok(done.unwrap_or_else(|| LettersDone::new(channel.clone())))
}

/// All that are there now; not those that come meanwhile.
async fn end_all(admin: &AdminClient, channel: &Name, end: End) -> Result<LettersDone, Failure> {
    let page = limits::LETTERS_PER_COMMAND_MAX as u32;
    let first = admin.dead_letters(channel, 0, page).await?.value;
    let mut done = Some(LettersDone::new(first.ledger.dead_channel));
    let (mut letters, mut left) = (first.letters, first.ledger.kept);
    while left > 0
        && let Some(last) = letters.last().map(|letter| letter.seq)
    {
        letters.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= letters.len() as u64;
        let part: SeqRanges = letters.iter().map(|letter| letter.seq).collect();
        let some = end_some(admin, channel, &part, end).await?;
        let full = some
            .outcomes
            .iter()
            .any(|outcome| outcome.error.as_ref().is_some_and(|error| error.code.retryable()));
        add(&mut done, some);
        if full {
            break;
        }
        letters = admin.dead_letters(channel, last.saturating_add(1), page).await?.value.letters;
    }
    Ok(done.unwrap_or_else(|| LettersDone::new(channel.clone())))
}

async fn end_some(
    admin: &AdminClient,
    channel: &Name,
    letters: &SeqRanges,
    end: End,
) -> Result<LettersDone, Failure> {
    Ok(match end {
        End::Replay { to_all } => admin.replay_letters(channel, letters, to_all).await?.value,
        End::Drop => admin.drop_letters(channel, letters).await?.value,
    })
}

fn add(done: &mut Option<LettersDone>, more: LettersDone) {
    match done {
        None => *done = Some(more),
        Some(done) => more.outcomes.into_iter().for_each(|outcome| done.add(outcome)),
    }
}

fn said(done: &LettersDone) -> String {
    let mut text = String::new();
    for outcome in &done.outcomes {
        text.push_str(&format!("{}\n", line(outcome)));
    }
    let counts = [
        (done.replayed, "replayed"),
        (done.dropped, "dropped"),
        (done.unknown, "not there"),
        (done.refused, "refused"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> =
        counts.map(|(count, what)| format!("{} {what}", output::count(*count))).collect();
    match counts.as_slice() {
        [] => format!("no dead letters in {}", done.dead_channel),
        counts => format!("{text}{}", counts.join(", ")),
    }
}

fn line(outcome: &LetterOutcome) -> String {
    let text = |first: Seq, last: Seq| match first == last {
        true => first.to_string(),
        false => format!("{first}..{last}"),
    };
    let letters = text(outcome.letters.first, outcome.letters.last);
    match (outcome.result, &outcome.error) {
        (LetterResult::Replayed, _) => {
            let first = outcome.first_seq.unwrap_or_default();
            let seqs = text(first, first.saturating_add(outcome.letters.len().saturating_sub(1)));
            let channel = outcome.channel.as_ref().map_or(String::new(), |c| format!(" of {c}"));
            format!("{letters}: replayed as {seqs}{channel}")
        }
        (LetterResult::Dropped, _) => format!("{letters}: dropped"),
        (LetterResult::Unknown, _) => format!("{letters}: not there, or not any more"),
        (LetterResult::Refused, None) => format!("{letters}: refused"),
        (LetterResult::Refused, Some(error)) if error.hint.is_empty() => {
            format!("{letters}: refused: {error}")
        }
        (LetterResult::Refused, Some(error)) => {
            format!("{letters}: refused: {error}; try: {}", error.hint)
        }
    }
}
