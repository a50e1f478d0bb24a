//! The replica's side of delivery: whom it believes, and what it refuses to go back to.
//!
//! It decides and remembers; it reads, writes and sends nothing.

use kubeng_config::canonical::Digest;
use kubeng_config::name::FleetName;
use kubeng_config::statement::{Epoch, SignedStatement, Statement};

use super::signing::VerifyingKeys;
use super::{NackReason, Offer};

/// What a replica remembers in order to judge what it is offered.
#[derive(Clone, Debug)]
pub struct Follower {
    fleet: FleetName,
    believed: Option<VerifyingKeys>,
    heard: Epoch,
    serves: Option<SignedStatement>,
}

impl Follower {
    /// One that serves what `serves` says, read from disk, or nothing. That counts as heard.
    ///
    /// It believes what `believed` stands for; without, inside one process, whoever speaks.
    #[must_use]
    pub fn new(
        fleet: FleetName,
        believed: Option<VerifyingKeys>,
        serves: Option<SignedStatement>,
    ) -> Self {
        let heard = serves.as_ref().map_or_else(Epoch::default, |signed| signed.statement.epoch);
        Self { fleet, believed, heard, serves }
    }

    /// The same, when the disk also says that `epoch` had been heard of.
    ///
    /// A newer epoch than that of what is served was heard when an Offer of it was refused.
    #[must_use]
    pub fn having_heard(mut self, epoch: Epoch) -> Self {
        self.heard = self.heard.max(epoch);
        self
    }

    /// Whether `offer` may be applied to the Snapshot of digest `held`.
    ///
    /// It notes the epoch of a Statement that it believes, whatever else is wrong with the Offer. When
    /// [`epoch`](Self::epoch) is another one afterwards, it is to be on disk before the Offer is
    /// applied or answered: then no earlier leader is heard after a restart either. That is one small
    /// write for each term of leadership.
    ///
    /// # Errors
    /// The reason to answer with. What is served stays.
    pub fn judge(&mut self, offer: &Offer, held: Digest) -> Result<(), NackReason> {
        self.believe(&offer.statement, offer.delta.target)?;
        let statement = &offer.statement.statement;
        if statement.epoch < self.heard {
            return Err(NackReason::Epoch);
        }
        self.heard = statement.epoch;
        // Those of an earlier epoch may be left behind: the term began with what its leader read, for
        // instance after the API server was restored from a backup.
        let is_behind = |serves: &Statement| {
            serves.epoch == statement.epoch && statement.position.is_behind(&serves.position)
        };
        if self.serves.as_ref().is_some_and(|serves| is_behind(&serves.statement)) {
            return Err(NackReason::Behind);
        }
        if offer.delta.base == held { Ok(()) } else { Err(NackReason::Base) }
    }

    fn believe(&self, signed: &SignedStatement, target: Digest) -> Result<(), NackReason> {
        if let Some(keys) = &self.believed {
            keys.verify(signed).map_err(|_| NackReason::Unbelieved)?;
        }
        let Statement { fleet, epoch: _, position: _, target: said, model_version: _ } =
            &signed.statement;
        // What is meant for another fleet, or says so of another Delta, was signed, but not for this.
        if *fleet == self.fleet && *said == target { Ok(()) } else { Err(NackReason::Unbelieved) }
    }

    /// Notes that the Snapshot of `offer`, which it had [judged](Self::judge), is served.
    pub fn applied(&mut self, offer: &Offer) {
        self.heard = self.heard.max(offer.statement.statement.epoch);
        self.serves = Some(offer.statement.clone());
    }

    /// The newest epoch that it has heard of.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.heard
    }

    /// What it serves, for the Hello and the disk; none for nothing.
    #[must_use]
    pub fn serves(&self) -> Option<&SignedStatement> {
        self.serves.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use kubeng_config::delta::Delta;
    use kubeng_config::position::Position;
    use kubeng_config::statement::MODEL_VERSION;

    use super::super::signing::SigningKey;
    use super::*;

    fn digest(of: &str) -> Digest {
        Digest::of([of.as_bytes()])
    }

    fn statement(epoch: u32, at: u64, target: &str) -> Statement {
        let mut position = Position::default();
        position.advance("kubernetes", at);
        Statement {
            fleet: "prod".parse().unwrap(),
            epoch: Epoch(epoch),
            position,
            target: digest(target),
            model_version: MODEL_VERSION,
        }
    }

    fn offer(statement: SignedStatement, base: &str) -> Offer {
        let target = statement.statement.target;
        let delta = Delta { base: digest(base), target, ..Delta::default() };
        Offer { nonce: 1, delta, statement, received: None }
    }

    fn unsigned(epoch: u32, at: u64, target: &str) -> SignedStatement {
        SignedStatement { statement: statement(epoch, at, target), signature: None }
    }

    fn that_serves(serves: Option<SignedStatement>) -> Follower {
        Follower::new("prod".parse().unwrap(), None, serves)
    }

    #[test]
    fn it_goes_on_within_an_epoch_and_back_in_a_newer_one_only() {
        #[track_caller]
        fn check(epoch: u32, at: u64, expected: Result<(), NackReason>) {
            let mut follower = that_serves(Some(unsigned(3, 10, "a")));
            let offer = offer(unsigned(epoch, at, "b"), "a");
            assert_eq!(follower.judge(&offer, digest("a")), expected, "epoch {epoch}, at {at}");
        }
        check(3, 10, Ok(()));
        check(3, 11, Ok(()));
        check(3, 9, Err(NackReason::Behind));
        check(2, 11, Err(NackReason::Epoch));
        check(4, 9, Ok(()));
    }

    #[test]
    fn a_delta_from_another_base_is_refused() {
        let mut follower = that_serves(None);
        let offer = offer(unsigned(0, 1, "b"), "a");
        assert_eq!(follower.judge(&offer, digest("c")), Err(NackReason::Base));
        assert_eq!(follower.judge(&offer, digest("a")), Ok(()));
        follower.applied(&offer);
        assert_eq!(follower.serves(), Some(&offer.statement));
    }

    #[test]
    fn an_epoch_counts_when_it_was_heard_even_if_nothing_came_of_it() {
        let mut follower = that_serves(Some(unsigned(3, 10, "a")));
        let newer = offer(unsigned(5, 1, "b"), "x");
        assert_eq!(follower.judge(&newer, digest("a")), Err(NackReason::Base));
        assert_eq!(follower.epoch(), Epoch(5));
        let between = offer(unsigned(4, 11, "c"), "a");
        assert_eq!(follower.judge(&between, digest("a")), Err(NackReason::Epoch));
        // As it begins again from disk, where both were kept.
        let mut again = that_serves(follower.serves().cloned()).having_heard(Epoch(5));
        assert_eq!(again.judge(&between, digest("a")), Err(NackReason::Epoch));
        assert_eq!(again.epoch(), Epoch(5));
        assert_eq!(that_serves(follower.serves().cloned()).epoch(), Epoch(3));
    }

    #[test]
    fn only_those_are_believed_whose_key_is_known() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let keys = VerifyingKeys::from(key.verifying_key());
        let mut follower = Follower::new("prod".parse().unwrap(), Some(keys), None);
        let mut check = |offer: &Offer, expected| {
            assert_eq!(follower.judge(offer, digest("a")), expected);
            follower.epoch()
        };
        let unbelieved = Err(NackReason::Unbelieved);
        assert_eq!(check(&offer(unsigned(9, 1, "b"), "a"), unbelieved), Epoch(0));
        assert_eq!(check(&offer(other.sign(statement(9, 1, "b")), "a"), unbelieved), Epoch(0));
        let mut elsewhere = statement(9, 1, "b");
        elsewhere.fleet = "test".parse().unwrap();
        assert_eq!(check(&offer(key.sign(elsewhere), "a"), unbelieved), Epoch(0));
        let mut about_another = offer(key.sign(statement(9, 1, "b")), "a");
        about_another.delta.target = digest("c");
        assert_eq!(check(&about_another, unbelieved), Epoch(0), "a Delta with a foreign Statement");
        assert_eq!(check(&offer(key.sign(statement(2, 1, "b")), "a"), Ok(())), Epoch(2));
    }
}
