//! `serve`: a source of events that the cluster polls.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use tokio::sync::{mpsc, oneshot};

use super::args::{Common, Serve};
use super::connect;
use super::exit::{Exit, Failure};
use super::publish::{Form, Report};
use crate::client::{AckRange, LaneChoice, PublishOptions, Source};
use crate::types::{EventBytes, limits};

/// Serves the lines of a file or of stdin; ends when all of them are answered.
pub async fn run(common: &Common, flags: &Serve) -> Result<Exit, Failure> {
    let form = if flags.cloud_event { Form::CloudEvent } else { Form::plain() };
    let input = open(flags.file.as_deref())?;
    let client = connect::client(common).await?;
    let options = PublishOptions {
        lane: flags.lane.clone().map_or(LaneChoice::Fresh, LaneChoice::Named),
        admin: flags.admin.clone(),
        deadline: connect::patience(common)?,
        ..PublishOptions::default()
    };
    let supplier = client.pull_supplier(flags.channel.clone(), options).await?;
    let publisher = supplier.publisher();
    // What was accepted of a file is not offered again.
    let skip = match flags.file {
        Some(_) => publisher.next_sequence().saturating_sub(1),
        None => 0,
    };
    let report = Report::new(common.output, flags.quiet, publisher);
    let (lines, queue) = mpsc::channel(limits::FRAME_EVENTS_MAX);
    let (tell, outcome) = oneshot::channel();
    // A thread of its own: nothing waits for it at the end, when it may wait for stdin for ever.
    std::thread::spawn(move || {
        let _ = tell.send(read(input, &form, skip, &lines));
    });
    let mut source = Lines { queue, report };
    let served = supplier.serve(&mut source).await;
    served.map_err(|error| Failure::from(error.rejection().clone()))?;
    let exit = source.report.close();
    match outcome.await {
        Ok(Err(error)) => Err(error.into()),
        _ => Ok(exit),
    }
}

type Input = Box<dyn BufRead + Send>;

fn open(file: Option<&Path>) -> Result<Input, Failure> {
    let Some(path) = file else { return Ok(Box::new(BufReader::new(io::stdin()))) };
    let file = File::open(path).map_err(|error| Failure::unreadable(path, &error))?;
    Ok(Box::new(BufReader::new(file)))
}

/// Makes events of the lines after the first `skip`, until nobody takes them.
fn read(input: Input, form: &Form, skip: u64, events: &mpsc::Sender<EventBytes>) -> io::Result<()> {
    for (number, line) in (1u64..).zip(input.lines()) {
        let line = line?;
        if number <= skip {
            continue;
        }
        let named = |why| io::Error::other(format!("line {number}: {why}"));
        let event = form.event(line.into_bytes()).map_err(named)?;
        if events.blocking_send(event).is_err() {
            break;
        }
    }
    Ok(())
}

/// Lines that were read, and what became of them.
struct Lines {
    queue: mpsc::Receiver<EventBytes>,
    report: Report,
}

impl Source for &mut Lines {
    async fn take(&mut self, most: usize) -> Option<Vec<EventBytes>> {
        let mut events = Vec::new();
        while events.len() < most {
            match self.queue.try_recv() {
                Ok(event) => events.push(event),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) if events.is_empty() => return None,
                Err(mpsc::error::TryRecvError::Disconnected) => break,
            }
        }
        Some(events)
    }

    fn answered(&mut self, answers: &[AckRange]) {
        self.report.add(answers);
    }
}
