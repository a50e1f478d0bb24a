//! What a controller waits for on the connection of the moment.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::super::{FromReplica, ToReplica};

/// How many questions may be open; the oldest answers are dropped beyond.
const QUESTIONS_MAX: usize = 64;

/// Gives Offers and questions numbers that no earlier connection has used, and lets pass only
/// answers that the connection of the moment waits for.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// The last number given; never given again.
    last: u64,
    /// The Offer that is not answered: our number and that of the controller.
    offer: Option<(u64, u64)>,
    questions: HashMap<u64, u64>,
    /// Whether the Holdings were asked for.
    holdings: bool,
}

impl Ledger {
    /// Another connection begins.
    pub(super) fn begin(&self) {
        let mut open = self.lock();
        *open = Open { last: open.last, ..Open::default() };
    }

    /// Notes what the controller waits for, and gives it its number here.
    pub(super) fn question(&self, message: ToReplica) -> ToReplica {
        let mut open = self.lock();
        match message {
            ToReplica::Offer(mut offer) => {
                open.last += 1;
                open.offer = Some((open.last, offer.nonce));
                offer.nonce = open.last;
                ToReplica::Offer(offer)
            }
            ToReplica::Ask { id, question } => {
                open.last += 1;
                let ours = open.last;
                open.questions.insert(ours, id);
                if open.questions.len() > QUESTIONS_MAX {
                    let oldest = open.questions.keys().min().copied();
                    oldest.and_then(|oldest| open.questions.remove(&oldest));
                }
                ToReplica::Ask { id: ours, question }
            }
            ToReplica::TellHoldings => {
                open.holdings = true;
                ToReplica::TellHoldings
            }
            message @ (ToReplica::Endpoints { .. }
            | ToReplica::Replicas(_)
            | ToReplica::Pulse(_)) => message,
        }
    }

    /// The answer with the number of the controller; none when nobody waits for it any more.
    pub(super) fn answer(&self, message: FromReplica) -> Option<FromReplica> {
        let mut open = self.lock();
        let mut offer = |ours: u64| {
            let theirs = open.offer.filter(|(number, _)| *number == ours).map(|(_, theirs)| theirs);
            if theirs.is_some() {
                open.offer = None;
            }
            theirs
        };
        Some(match message {
            FromReplica::Ack { nonce, digest, problems } => {
                FromReplica::Ack { nonce: offer(nonce)?, digest, problems }
            }
            FromReplica::Nack { nonce, reason, problems } => {
                FromReplica::Nack { nonce: offer(nonce)?, reason, problems }
            }
            FromReplica::Reply { id, reply } => {
                FromReplica::Reply { id: open.questions.remove(&id)?, reply }
            }
            FromReplica::Holdings(digest, parts) => {
                if !std::mem::take(&mut open.holdings) {
                    return None;
                }
                FromReplica::Holdings(digest, parts)
            }
            message @ (FromReplica::Hello(_)
            | FromReplica::Heartbeat(_)
            | FromReplica::Unread(_)) => message,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
