//! Connections that are slow, cut anywhere, noticed late, and played again.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;

use super::super::line::LINE_MESSAGES_MAX;
use super::super::session::Session;
use super::super::{FromReplica, Offer, ToReplica};
use super::Carried;

/// How many messages of a connection are kept to play them again, and of how many connections.
const RECORDED_MAX: usize = 6;
const RECORDINGS_MAX: usize = 4;

/// One connection. Within it order holds.
pub(super) struct Connection {
    pub(super) replica: usize,
    /// None for a connection that is played again.
    pub(super) controller: Option<usize>,
    /// Of the controller, from the Hello on.
    pub(super) session: Option<Session>,
    pub(super) down: VecDeque<Carried>,
    pub(super) up: VecDeque<FromReplica>,
    /// Nothing that is sent from here on arrives.
    pub(super) is_cut: bool,
    /// Whether each end has noticed, or left by itself.
    pub(super) has_replica: bool,
    pub(super) has_controller: bool,
    recorded: Vec<Arc<ToReplica>>,
}

impl Connection {
    pub(super) fn new(replica: usize, controller: Option<usize>) -> Self {
        Self {
            replica,
            controller,
            session: None,
            down: VecDeque::new(),
            up: VecDeque::new(),
            is_cut: false,
            has_replica: true,
            has_controller: controller.is_some(),
            recorded: Vec::new(),
        }
    }

    /// One on which `recording` is played again, with another epoch if it is to be `forged`.
    pub(super) fn again(replica: usize, recording: &[Arc<ToReplica>], forged: Option<u32>) -> Self {
        let carry = |message: &Arc<ToReplica>| match (&**message, forged) {
            (ToReplica::Offer(offer), Some(epochs)) => {
                let mut statement = offer.statement.clone();
                statement.statement.epoch.0 += epochs;
                let Offer { nonce, ref delta, .. } = **offer;
                let offer = Offer { nonce, delta: delta.clone(), statement, received: None };
                Carried { message: ToReplica::Offer(Box::new(offer)).into(), is_genuine: false }
            }
            _ => Carried { message: Arc::clone(message), is_genuine: true },
        };
        Self { down: recording.iter().map(carry).collect(), ..Self::new(replica, None) }
    }

    /// Whether the controller may write; it waits while the line is full, and a line that is cut takes
    /// everything until that is noticed.
    fn has_room(&self) -> bool {
        self.has_controller && (self.is_cut || self.down.len() < LINE_MESSAGES_MAX)
    }

    /// Sends all that the session has to say and that there is room for.
    pub(super) fn pump(&mut self) {
        // A line that was cut would never be full.
        for _ in 0..LINE_MESSAGES_MAX {
            if !self.has_room() {
                return;
            }
            let Some(message) = self.session.as_mut().and_then(Session::say) else { return };
            let message = Arc::new(message);
            if self.recorded.len() < RECORDED_MAX {
                self.recorded.push(Arc::clone(&message));
            }
            if !self.is_cut {
                self.down.push_back(Carried { message, is_genuine: true });
            }
        }
    }

    pub(super) fn answer(&mut self, message: FromReplica) {
        if !self.is_cut && self.has_controller {
            self.up.push_back(message);
        }
    }

    /// Cuts it: what is on its way arrives in part.
    pub(super) fn cut(&mut self, rng: &mut Rng) {
        self.is_cut = true;
        self.down.truncate(rng.usize(..=self.down.len()));
        self.up.truncate(rng.usize(..=self.up.len()));
    }

    pub(super) fn is_over(&self) -> bool {
        !self.has_replica && !self.has_controller
    }
}

/// What was said on earlier connections.
#[derive(Default)]
pub(super) struct Recordings(VecDeque<Vec<Arc<ToReplica>>>);

impl Recordings {
    pub(super) fn keep(&mut self, connection: Connection) {
        if !connection.recorded.is_empty() {
            self.0.push_back(connection.recorded);
        }
        if self.0.len() > RECORDINGS_MAX {
            self.0.pop_front();
        }
    }

    pub(super) fn choose(&self, rng: &mut Rng) -> Option<&[Arc<ToReplica>]> {
        if self.0.is_empty() {
            None
        } else {
            self.0.get(rng.usize(..self.0.len())).map(Vec::as_slice)
        }
    }
}
