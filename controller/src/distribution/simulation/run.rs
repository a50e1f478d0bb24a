//! One seed: faults at random, then none, and what must hold all the time and in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use kubeng_config::canonical::Digest;
use kubeng_config::heartbeat::{Build, Heartbeat, Origin, Resources, Running};
use kubeng_config::position::Position;
use kubeng_config::statement::{Epoch, MODEL_VERSION};

use super::super::session::Session;
use super::super::{FromReplica, Hello, ToReplica};
use super::controller::{Controller, Truth};
use super::library::{Library, POISON};
use super::network::{Connection, Recordings};
use super::replica::Replica;
use super::{Carried, Sabotage};

/// How many things happen while there are faults.
const FAULTS: usize = 150;
/// How many messages each replica and controller may exchange until all is well: a Hello, the question
/// for holdings, two Offers, their answers, Endpoints, and those of connections that are given up.
const MESSAGES_UNTIL_CALM_MAX: usize = 24;

/// All that there is, in virtual time: one step after the other.
pub(super) struct Run<'a> {
    library: &'a Library,
    rng: Rng,
    truth: Truth,
    controllers: Vec<Controller>,
    replicas: Vec<Replica>,
    connections: BTreeMap<u32, Connection>,
    next_connection: u32,
    recordings: Recordings,
    is_signed: bool,
    published: BTreeSet<Digest>,
    /// How often replicas answered what while there were faults.
    pub(super) answers: BTreeMap<String, u32>,
    /// What happened, if somebody wants to know.
    trace: Option<Vec<String>>,
}

impl<'a> Run<'a> {
    pub(super) fn new(library: &'a Library, seed: u64, sabotage: Sabotage, traced: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let truth = Truth::new(&mut rng);
        // Signatures take most of the time, and hold or do not hold whatever else happens.
        let is_signed = rng.u8(..16) == 0 || sabotage == Sabotage::BelievesAll;
        let controllers = (0..rng.usize(1..=3)).map(|_| Controller::new(&truth, library)).collect();
        let replica = |_| Replica::new(library, is_signed, sabotage);
        let mut replicas: Vec<Replica> = (0..rng.usize(1..=3)).map(replica).collect();
        replicas[0].is_picky = rng.u8(..3) == 0;
        Self {
            library,
            rng,
            truth,
            controllers,
            replicas,
            connections: BTreeMap::new(),
            next_connection: 0,
            recordings: Recordings::default(),
            is_signed,
            published: BTreeSet::new(),
            answers: BTreeMap::new(),
            trace: traced.then(Vec::new),
        }
    }

    /// Lets it happen. The error says which promise was broken.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for _ in 0..FAULTS {
            self.step()?;
        }
        self.calm()?;
        let wanted = self.controllers[0].published.snapshot.digest();
        if self.library.is_poisoned(wanted) && self.replicas[0].is_picky {
            // Somebody mends what one of them cannot serve.
            self.truth.logs[0].push(self.rng.usize(..POISON));
            self.calm()?;
        }
        Ok(())
    }

    pub(super) fn trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(text());
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let controller = self.rng.usize(..self.controllers.len());
        let replica = self.rng.usize(..self.replicas.len());
        match self.rng.u8(..=255) {
            0..70 => self.deliver_down(replica)?,
            70..130 => self.deliver_up(),
            130..160 => self.connect(replica),
            160..175 => self.truth.change(&mut self.rng),
            175..180 => self.truth.change_endpoints(&mut self.rng),
            180..205 => self.read(controller),
            205..215 => self.lead(controller),
            215..225 => self.pause(controller),
            225..226 => self.restart_controller(controller),
            226..227 => self.restore(controller),
            227..231 => self.cut(),
            231..243 => self.notice(),
            243..249 => self.replicas[replica].persist(),
            249..253 => self.restart_replica(replica),
            253..=255 => self.tell_heartbeat(replica),
        }
        Ok(())
    }

    fn deliver_down(&mut self, replica: usize) -> Result<(), String> {
        let Some(id) = self.replicas[replica].connection else { return Ok(()) };
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let Some(carried) = connection.down.pop_front() else {
            // What is played again ends there.
            if connection.controller.is_none() {
                connection.is_cut = true;
                self.leave(replica);
            }
            return Ok(());
        };
        let answer = self.replicas[replica].take(&carried, self.library);
        self.note(|| format!("replica {replica} <- {}: {}", shown(&carried), answered(&answer)));
        if let Some(answer) = answer? {
            *self.answers.entry(kind(&answer)).or_default() += 1;
            self.connections.get_mut(&id).unwrap().answer(answer);
        }
        self.replicas[replica].check(&self.published)?;
        self.pump_one(id);
        Ok(())
    }

    fn deliver_up(&mut self) {
        let mut waiting = Vec::new();
        for (id, connection) in &self.connections {
            if let Some(controller) = connection.controller
                && !connection.up.is_empty()
                && !self.controllers[controller].is_paused
            {
                waiting.push((*id, controller));
            }
        }
        let Some((id, controller)) = self.rng.choice(waiting) else { return };
        let message = self.connections.get_mut(&id).unwrap().up.pop_front();
        if let Some(message) = message {
            self.hear(id, controller, &message);
        }
    }

    fn hear(&mut self, id: u32, controller: usize, message: &FromReplica) {
        let at = &self.controllers[controller];
        let connection = self.connections.get_mut(&id).unwrap();
        match (message, &mut connection.session) {
            (FromReplica::Hello(hello), None) => {
                let signer = self.is_signed.then(|| Arc::clone(&self.library.key));
                let history = Arc::clone(&at.history);
                let serves = hello.serves.as_ref();
                let session = Session::new(hello.fleet.clone(), serves, history, signer);
                connection.session = Some(session);
            }
            (message, Some(session)) => session.heard(message),
            (_, None) => {}
        }
        let replica = connection.replica;
        self.note(|| format!("controller {controller} <- replica {replica}: {}", told(message)));
        self.pump_one(id);
    }

    /// Tells the sessions of a controller all that it knows, and sends what they say.
    fn pump(&mut self, controller: usize) {
        let own = |(_, connection): &(&u32, &Connection)| connection.controller == Some(controller);
        let ids: Vec<u32> = self.connections.iter().filter(own).map(|(id, _)| *id).collect();
        for id in ids {
            self.pump_one(id);
        }
    }

    fn pump_one(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(controller) = connection.controller else { return };
        let at = &self.controllers[controller];
        if at.is_paused {
            return;
        }
        if let Some(session) = &mut connection.session {
            session.published(Arc::clone(&at.published));
            session.epoch(at.epoch);
            connection.pump();
        }
    }

    fn connect(&mut self, replica: usize) {
        if self.replicas[replica].connection.is_some() {
            // It goes elsewhere by itself now and then.
            if self.rng.u8(..8) == 0 {
                self.leave(replica);
            }
            return;
        }
        if self.rng.u8(..5) == 0
            && let Some(recording) = self.recordings.choose(&mut self.rng)
        {
            let forged = (self.is_signed && self.rng.bool()).then(|| self.rng.u32(1..3));
            let again = Connection::again(replica, recording, forged);
            self.open(replica, again);
            return;
        }
        let controller = self.rng.usize(..self.controllers.len());
        self.connect_to(replica, controller);
    }

    fn connect_to(&mut self, replica: usize, controller: usize) {
        let mut connection = Connection::new(replica, Some(controller));
        let serves = self.replicas[replica].says_it_serves();
        connection.up.push_back(FromReplica::Hello(Box::new(Hello {
            replica: "one".parse().unwrap(),
            fleet: "prod".parse().unwrap(),
            build: build(),
            admin: None,
            labels: Default::default(),
            certified: Default::default(),
            serves,
        })));
        self.open(replica, connection);
    }

    fn open(&mut self, replica: usize, connection: Connection) {
        let to = connection.controller;
        self.note(|| format!("replica {replica} connects to {to:?}"));
        self.connections.insert(self.next_connection, connection);
        self.replicas[replica].connection = Some(self.next_connection);
        self.next_connection += 1;
    }

    /// The replica ends its connection, or has noticed that it is cut.
    fn leave(&mut self, replica: usize) {
        let Some(id) = self.replicas[replica].connection.take() else { return };
        let connection = self.connections.get_mut(&id).unwrap();
        // What it has sent may still arrive.
        connection.has_replica = false;
        connection.is_cut = true;
        connection.down.clear();
        self.note(|| format!("replica {replica} leaves"));
        self.forget_if_over(id);
    }

    fn forget_if_over(&mut self, id: u32) {
        if self.connections.get(&id).is_some_and(Connection::is_over)
            && let Some(connection) = self.connections.remove(&id)
        {
            self.recordings.keep(connection);
        }
    }

    fn read(&mut self, controller: usize) {
        if self.controllers[controller].is_paused {
            return;
        }
        if self.rng.u8(..3) == 0 {
            self.controllers[controller].read_endpoints(&self.truth);
            self.tell_endpoints(controller);
        } else {
            self.controllers[controller].read(&self.truth, &mut self.rng);
        }
        self.publish(controller);
    }

    fn publish(&mut self, controller: usize) {
        let at = &mut self.controllers[controller];
        at.publish(&self.truth, self.library, &mut self.published);
        let text = format!("{} {:?}", at.published.position, at.published.snapshot.digest());
        self.note(|| format!("controller {controller} has {text}"));
        self.pump(controller);
    }

    /// As a publisher does it: what is newest is known to sessions when Endpoints come.
    fn tell_endpoints(&mut self, controller: usize) {
        let at = &mut self.controllers[controller];
        at.publish(&self.truth, self.library, &mut self.published);
        let library = self.library;
        let numbers = self.truth.endpoints;
        let own = |connection: &&mut Connection| connection.controller == Some(controller);
        for connection in self.connections.values_mut().filter(own) {
            if let Some(session) = &mut connection.session {
                session.published(Arc::clone(&at.published));
                let sets = numbers.iter().map(|nth| Arc::clone(&library.sets[*nth]));
                session.endpoints(library.backends.iter().cloned().zip(sets), None);
            }
        }
    }

    /// A controller hears who leads, or takes the lead.
    fn lead(&mut self, controller: usize) {
        if self.controllers[controller].is_paused {
            return;
        }
        if self.rng.u8(..3) == 0 {
            self.truth.epoch.0 += 1;
        }
        self.controllers[controller].observe(&self.truth);
        let epoch = self.truth.epoch;
        self.note(|| format!("controller {controller} is in epoch {epoch}"));
        self.publish(controller);
    }

    /// A paused controller believes that nothing has changed when it goes on.
    fn pause(&mut self, controller: usize) {
        if !self.controllers[controller].is_paused && self.rng.u8(..4) > 0 {
            return;
        }
        let at = &mut self.controllers[controller];
        at.is_paused = !at.is_paused;
        let is_paused = at.is_paused;
        self.note(|| format!("controller {controller} paused: {is_paused}"));
        self.pump(controller);
    }

    fn restart_controller(&mut self, controller: usize) {
        self.controllers[controller] = Controller::new(&self.truth, self.library);
        self.note(|| format!("controller {controller} restarts"));
        let own = |c: &Connection| c.controller == Some(controller) && c.has_controller;
        let ids: Vec<u32> =
            self.connections.iter().filter(|(_, c)| own(c)).map(|(id, _)| *id).collect();
        for id in ids {
            let connection = self.connections.get_mut(&id).unwrap();
            connection.cut(&mut self.rng);
            self.end_at_controller(id);
        }
    }

    /// The cluster is restored from a backup: what was read last never was. Then leadership begins
    /// anew.
    fn restore(&mut self, controller: usize) {
        let at = self.rng.usize(1..=self.truth.logs[0].len());
        self.truth.logs[0].truncate(at);
        self.truth.restored += 1;
        self.truth.epoch.0 += 1;
        self.note(|| format!("the cluster is back at {at}"));
        self.controllers[controller].is_paused = false;
        self.controllers[controller].observe(&self.truth);
        self.publish(controller);
    }

    fn cut(&mut self) {
        let Some(id) = self.choose_connection() else { return };
        self.connections.get_mut(&id).unwrap().cut(&mut self.rng);
        self.note(|| format!("connection {id} is cut"));
    }

    /// One end of a connection that is cut notices.
    fn notice(&mut self) {
        let cut = self.connections.iter().filter(|(_, connection)| connection.is_cut);
        let cut: Vec<u32> = cut.map(|(id, _)| *id).collect();
        let Some(id) = self.rng.choice(cut) else { return };
        let connection = &self.connections[&id];
        let replica = connection.replica;
        if self.rng.bool() && connection.has_replica {
            self.leave(replica);
        } else {
            self.end_at_controller(id);
        }
    }

    fn end_at_controller(&mut self, id: u32) {
        let connection = self.connections.get_mut(&id).unwrap();
        connection.has_controller = false;
        connection.session = None;
        connection.up.clear();
        self.forget_if_over(id);
    }

    fn restart_replica(&mut self, replica: usize) {
        self.leave(replica);
        if self.rng.u8(..4) == 0 {
            self.note(|| format!("replica {replica} gets another disk"));
            self.replicas[replica].replace(self.library);
        } else {
            self.note(|| format!("replica {replica} restarts"));
            self.replicas[replica].restart();
        }
    }

    fn tell_heartbeat(&mut self, replica: usize) {
        let Some(id) = self.replicas[replica].connection else { return };
        let epoch = self.replicas[replica].follower.epoch();
        self.connections.get_mut(&id).unwrap().answer(heartbeat(epoch));
    }

    fn choose_connection(&mut self) -> Option<u32> {
        if self.connections.is_empty() {
            return None;
        }
        let nth = self.rng.usize(..self.connections.len());
        self.connections.keys().nth(nth).copied()
    }

    /// No faults any more: everybody hears everything. Then all must be well after few messages.
    fn calm(&mut self) -> Result<(), String> {
        self.note(|| "no faults any more".into());
        for at in &mut self.controllers {
            at.is_paused = false;
            at.read_all(&self.truth);
        }
        for controller in 0..self.controllers.len() {
            self.tell_endpoints(controller);
            self.publish(controller);
        }
        let ids: Vec<u32> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.connections.get(&id) else { continue };
            if connection.is_cut || connection.controller.is_none() {
                let replica = connection.replica;
                if self.replicas[replica].connection == Some(id) {
                    self.leave(replica);
                }
                if self.connections.contains_key(&id) {
                    self.end_at_controller(id);
                }
            }
        }
        for replica in 0..self.replicas.len() {
            if self.replicas[replica].connection.is_none() {
                let controller = self.rng.usize(..self.controllers.len());
                self.connect_to(replica, controller);
            }
            self.exchange(replica)?;
            self.check_calm(replica).map_err(|why| format!("replica {replica}: {why}"))?;
        }
        Ok(())
    }

    /// Delivers all that is said between a replica and its controller until nothing is.
    fn exchange(&mut self, replica: usize) -> Result<(), String> {
        let id = self.replicas[replica].connection.ok_or("not connected")?;
        let controller = self.connections[&id].controller.ok_or("not connected")?;
        for _ in 0..MESSAGES_UNTIL_CALM_MAX {
            self.pump(controller);
            let connection = self.connections.get_mut(&id).unwrap();
            if let Some(message) = connection.up.pop_front() {
                self.hear(id, controller, &message);
            } else if !connection.down.is_empty() {
                self.deliver_down(replica)?;
            } else {
                return Ok(());
            }
        }
        Err(format!("replica {replica} and controller {controller} find no end"))
    }

    fn check_calm(&self, replica: usize) -> Result<(), String> {
        let at = &self.replicas[replica];
        let epoch = at.follower.epoch();
        if epoch != self.truth.epoch {
            return Err(format!("it has heard of epoch {epoch}, not of {}", self.truth.epoch));
        }
        for (id, set) in &at.endpoints {
            let nth = self.library.backends.iter().position(|other| other == id).unwrap();
            if *set != self.library.sets[self.truth.endpoints[nth]] {
                return Err(format!("its Endpoints of {id} are old"));
            }
        }
        // Equal inputs give equal digests, so any controller says what the leader wants.
        let wanted = self.controllers[0].published.snapshot.digest();
        let runs = at.snapshot.digest();
        let is_excused = at.is_picky && self.library.is_poisoned(wanted);
        if runs == wanted || is_excused && !self.library.is_poisoned(runs) {
            Ok(())
        } else {
            Err(format!("it runs {runs:?}, but {wanted:?} is wanted"))
        }
    }
}

fn shown(carried: &Carried) -> String {
    match &*carried.message {
        ToReplica::Offer(offer) => {
            let said = &offer.statement.statement;
            let (base, target) = (offer.delta.base, said.target);
            format!("epoch {} at {}: {base:?} to {target:?}", said.epoch, said.position)
        }
        ToReplica::Endpoints { sets, .. } => format!("{} sets of Endpoints", sets.len()),
        other @ (ToReplica::TellHoldings
        | ToReplica::Replicas(_)
        | ToReplica::Pulse(_)
        | ToReplica::Ask { .. }) => format!("{other:?}"),
    }
}

fn answered(answer: &Result<Option<FromReplica>, String>) -> String {
    match answer {
        Ok(Some(answer)) => told(answer),
        Ok(None) => "no answer".into(),
        Err(why) => why.clone(),
    }
}

fn told(message: &FromReplica) -> String {
    match message {
        FromReplica::Hello(hello) => match &hello.serves {
            Some(signed) => format!("Hello, {:?}", signed.statement.target),
            None => "Hello".into(),
        },
        FromReplica::Holdings(digest, parts) => format!("{} Parts of {digest:?}", parts.len()),
        FromReplica::Ack { digest, .. } => format!("Ack {digest:?}"),
        FromReplica::Nack { reason, .. } => format!("Nack {reason:?}"),
        FromReplica::Heartbeat(heartbeat) => format!("heard of epoch {}", heartbeat.epoch),
        FromReplica::Unread(why) => why.clone(),
        FromReplica::Reply { .. } => "a reply".into(),
    }
}

fn kind(answer: &FromReplica) -> String {
    match answer {
        FromReplica::Ack { .. } => "Ack".into(),
        FromReplica::Holdings(..) => "Holdings".into(),
        FromReplica::Hello(_)
        | FromReplica::Nack { .. }
        | FromReplica::Heartbeat(_)
        | FromReplica::Unread(_)
        | FromReplica::Reply { .. } => told(answer),
    }
}

fn build() -> Build {
    Build { version: "1".into(), sha256: Digest::default(), model_version: MODEL_VERSION }
}

fn heartbeat(epoch: Epoch) -> FromReplica {
    let digest = Digest::default();
    FromReplica::Heartbeat(Box::new(Heartbeat {
        epoch,
        position: Position::default(),
        acknowledged: digest,
        rejected: None,
        running: Running { digest, age_seconds: 0 },
        endpoints: digest,
        origin: Origin::Controller,
        last_known_good: None,
        emergency: None,
        build: build(),
        resources: Resources::default(),
        problems: Vec::new(),
    }))
}
