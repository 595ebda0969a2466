//! What became of deliveries, on its way to being committed.
//!
//! Verdicts gather until the next frame leaves, become a numbered batch, and are sent again over
//! each new connection until the server confirms the batch.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::types::{Outcome, ProxyId, Rejection, Seq, SeqRange, SeqRanges, limits};
use crate::wire::{Nack, Settle, SettleConfirmed, Terminate};

/// What a consumer says of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Processed: never again.
    Ack,
    /// Not processed: again, after this many milliseconds (at most
    /// [`limits::NACK_DELAY_MS_MAX`]).
    Nack { delay_ms: u64 },
    /// Can never be processed: to the dead-letter channel, and why.
    Terminate { reason: String },
    /// Still being processed: its lease begins again. Not confirmed.
    Touch,
}

/// What settling came to so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlements {
    /// Verdicts given (touches do not count).
    pub given: u64,
    /// Verdicts whose batch is committed.
    pub confirmed: u64,
    /// Events that confirmed batches settled.
    pub settled: u64,
    /// Verdicts that came too late: settled before, by something else or by an earlier delivery.
    pub already: u64,
    /// The last of those, with the winner while it is known.
    pub last_already: Option<(SeqRange, Option<Outcome>)>,
    /// Verdicts refused for good.
    pub refused: u64,
    /// Why the last of those were.
    pub last_refusal: Option<Rejection>,
}

impl Settlements {
    /// Verdicts neither confirmed nor refused.
    pub fn unconfirmed(&self) -> u64 {
        self.given - self.confirmed - self.refused
    }
}

#[derive(Debug)]
struct Batch {
    message: Settle,
    verdicts: u64,
    /// Sent over the present connection.
    sent: bool,
    not_before: Duration,
    refusals: u32,
}

/// The settlements of one consumer, or of one token.
#[derive(Debug, Default)]
pub struct Settling {
    proxy: Option<ProxyId>,
    /// What was delivered under the latest fencing token, if the proxy is exclusive.
    fence: Fence,
    /// The token of what is gathered.
    fencing: u64,
    acks: SeqRanges,
    nacks: BTreeMap<u64, SeqRanges>,
    terms: BTreeMap<String, SeqRanges>,
    touches: SeqRanges,
    /// Ranges gathered at most, so that a batch fits its message.
    gathered: usize,
    /// Events gathered, touched ones included.
    events: u64,
    /// Events gathered whose settlement is to be confirmed.
    verdicts: u64,
    /// Cut and unconfirmed.
    batches: BTreeMap<u64, Batch>,
    totals: Settlements,
}

/// Deliveries under one fencing token. What came under an earlier one is of no use any more.
#[derive(Debug, Default)]
struct Fence {
    token: u64,
    sequences: SeqRanges,
}

impl Fence {
    /// The token to name for a delivery; one that cannot be the current one if it is of an earlier.
    fn of(&self, seq: Seq) -> u64 {
        if self.sequences.contains(seq) { self.token } else { 0 }
    }
}

/// Verdicts of one message: bounds its size.
const BATCH_RANGES_MAX: usize = limits::FRAME_EVENTS_MAX;
/// Batches of one consumer on their way at a time.
const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// Bytes of reasons of one message.
const REASON_BYTES_MAX: usize = 1024;

impl Settling {
    /// Settles for this proxy from now on; what was gathered for another is cut off as a batch.
    pub fn attach(&mut self, proxy: Option<ProxyId>, batch: &mut u64) {
        if self.proxy != proxy && proxy.is_some() {
            self.cut(batch);
            self.proxy = proxy;
        }
    }

    /// The proxy that is settled for.
    pub fn proxy(&self) -> Option<ProxyId> {
        self.proxy
    }

    /// Takes note of the fencing token of a delivery; 0: it has none. True: it is a new one.
    pub fn delivered(&mut self, seq: Seq, token: u64) -> bool {
        let news = token != self.fence.token;
        if news {
            self.fence = Fence { token, ..Fence::default() };
        }
        if token > 0 {
            self.fence.sequences.insert(seq);
        }
        news
    }

    /// Gives a verdict on deliveries. Ignored as long as there is no durable proxy.
    pub fn settle(&mut self, seqs: &[Seq], verdict: Verdict, batch: &mut u64) {
        if self.fence.token == 0 && self.fencing == 0 {
            return self.settle_part(seqs, &verdict, batch);
        }
        let token = |seq: &Seq| self.fence.of(*seq);
        let parts: Vec<(u64, &[Seq])> = seqs
            .chunk_by(|a, b| token(a) == token(b))
            .map(|part| (token(&part[0]), part))
            .collect();
        for (token, part) in parts {
            if token != self.fencing {
                self.cut(batch);
                self.fencing = token;
            }
            self.settle_part(part, &verdict, batch);
            if token > 0 && verdict != Verdict::Touch {
                part.iter().for_each(|seq| self.fence.sequences.remove_range(SeqRange::one(*seq)));
            }
        }
    }

    /// The same for deliveries of one token.
    fn settle_part(&mut self, seqs: &[Seq], verdict: &Verdict, batch: &mut u64) {
        if self.proxy.is_none() {
            return;
        }
        for chunk in seqs.chunks(BATCH_RANGES_MAX) {
            if self.gathered + chunk.len() > BATCH_RANGES_MAX && self.ranges() > 0 {
                self.gathered = self.ranges();
                if self.gathered + chunk.len() > BATCH_RANGES_MAX {
                    self.cut(batch);
                }
            }
            if self.events + chunk.len() as u64 > limits::SETTLE_EVENTS_MAX {
                self.cut(batch);
            }
            self.gathered += chunk.len();
            self.events += chunk.len() as u64;
            if *verdict != Verdict::Touch {
                self.verdicts += chunk.len() as u64;
                self.totals.given += chunk.len() as u64;
            }
            let set = self.set_of(verdict);
            chunk.iter().for_each(|&seq| set.insert(seq));
        }
    }

    fn set_of(&mut self, verdict: &Verdict) -> &mut SeqRanges {
        match verdict {
            Verdict::Ack => &mut self.acks,
            Verdict::Touch => &mut self.touches,
            Verdict::Nack { delay_ms } => {
                self.nacks.entry((*delay_ms).min(limits::NACK_DELAY_MS_MAX)).or_default()
            }
            Verdict::Terminate { reason } => {
                let end = (0..=reason.len().min(REASON_BYTES_MAX))
                    .rev()
                    .find(|&at| reason.is_char_boundary(at))
                    .unwrap_or(0);
                self.terms.entry(reason[..end].to_string()).or_default()
            }
        }
    }

    /// Ranges gathered now, weighed by what they take in a message.
    fn ranges(&self) -> usize {
        let nacks = self.nacks.values().map(|set| set.range_count() + 1);
        let terms = self.terms.iter().map(|(why, set)| set.range_count() + 1 + why.len() / 16);
        let sets = self.acks.range_count() + self.touches.range_count();
        sets + nacks.sum::<usize>() + terms.sum::<usize>()
    }

    /// Makes a batch of what is gathered.
    fn cut(&mut self, batch: &mut u64) {
        let Some(proxy) = self.proxy.filter(|_| self.ranges() > 0) else { return };
        *batch += 1;
        let nacks = std::mem::take(&mut self.nacks);
        let terms = std::mem::take(&mut self.terms);
        let message = Settle {
            batch: *batch,
            proxy,
            fencing: self.fencing,
            acks: std::mem::take(&mut self.acks),
            nacks: nacks
                .into_iter()
                .map(|(delay_ms, sequences)| Nack { sequences, delay_ms })
                .collect(),
            terms: terms
                .into_iter()
                .map(|(reason, sequences)| Terminate { sequences, reason })
                .collect(),
            touches: std::mem::take(&mut self.touches),
        };
        (self.gathered, self.events) = (0, 0);
        let verdicts = std::mem::take(&mut self.verdicts);
        let not_before = Duration::ZERO;
        let cut = Batch { message, verdicts, sent: false, not_before, refusals: 0 };
        self.batches.insert(*batch, cut);
    }

    /// The next batch to send over the present connection.
    pub fn say(&mut self, now: Duration, batch: &mut u64) -> Option<Settle> {
        // While some are on their way, the next fills.
        if self.batches.len() < BATCHES_IN_FLIGHT_MAX {
            self.cut(batch);
        }
        let ready = |b: &&mut Batch| !b.sent && b.not_before <= now;
        let next = self.batches.values_mut().find(ready)?;
        next.sent = true;
        let mut message = next.message.clone();
        if next.verdicts == 0 {
            // Touches are not confirmed, and worth nothing later.
            self.batches.remove(&message.batch);
        } else {
            next.message.touches = SeqRanges::new();
            if next.refusals > 0 {
                message.touches = SeqRanges::new();
            }
        }
        Some(message)
    }

    /// The connection is gone: everything unconfirmed is sent again over the next.
    pub fn disconnected(&mut self) {
        for batch in self.batches.values_mut() {
            batch.sent = false;
            batch.not_before = Duration::ZERO;
        }
    }

    /// Whether this batch is one of ours.
    pub fn owns(&self, batch: u64) -> bool {
        self.batches.contains_key(&batch)
    }

    /// The server committed or refused a batch. Refusals that may pass are tried again.
    pub fn confirmed(
        &mut self,
        answer: SettleConfirmed,
        now: Duration,
        mut pause: impl FnMut(u32) -> Duration,
    ) {
        let Some(batch) = self.batches.get_mut(&answer.batch) else { return };
        if let Some(rejection) = &answer.refused
            && rejection.code.retryable()
        {
            batch.not_before = now + pause(batch.refusals);
            batch.refusals = batch.refusals.saturating_add(1);
            batch.sent = false;
            return;
        }
        let verdicts = batch.verdicts;
        self.batches.remove(&answer.batch);
        match answer.refused {
            Some(rejection) => {
                self.totals.refused += verdicts;
                self.totals.last_refusal = Some(rejection);
            }
            None => {
                self.totals.confirmed += verdicts;
                self.totals.settled += answer.settled;
                self.totals.already +=
                    answer.already.iter().map(|(range, _)| range.len()).sum::<u64>();
                self.totals.last_already =
                    answer.already.last().copied().or(self.totals.last_already);
            }
        }
    }

    /// Whether this sequence was acknowledged or terminated and that is not confirmed yet.
    pub fn is_settling(&self, seq: Seq) -> bool {
        let among =
            |m: &Settle| m.acks.contains(seq) || m.terms.iter().any(|t| t.sequences.contains(seq));
        self.acks.contains(seq)
            || self.terms.values().any(|set| set.contains(seq))
            || self.batches.values().any(|batch| among(&batch.message))
    }

    /// What settling came to so far.
    pub fn totals(&self) -> &Settlements {
        &self.totals
    }

    /// Whether everything given is confirmed or refused, and every touch sent.
    pub fn is_idle(&self) -> bool {
        self.batches.is_empty() && self.ranges() == 0
    }

    /// Whether the server owes a confirmation.
    pub fn awaits(&self) -> bool {
        self.batches.values().any(|batch| batch.sent)
    }

    /// When a refused batch is to be sent again.
    pub fn wake_at(&self) -> Option<Duration> {
        self.batches.values().filter(|b| !b.sent && b.refusals > 0).map(|b| b.not_before).min()
    }
}
