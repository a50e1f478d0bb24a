//! The line to one replica, and who takes it: the seam between transport and what is said over it.

use std::future::Future;
use std::net::IpAddr;

use kubeng_config::name::FleetName;
use tokio::sync::mpsc;

use super::{FromReplica, Hello, ToReplica};

/// How many messages wait on a line in each direction; the other end waits when there are more.
pub const LINE_MESSAGES_MAX: usize = 4;

/// Both directions to one replica that has said Hello. It ends when either side drops its half.
pub struct Line {
    /// What the replica is to be told.
    pub to: mpsc::Receiver<ToReplica>,
    /// What the replica tells.
    pub from: mpsc::Sender<FromReplica>,
}

/// Who takes replicas in: the controller behind the transport.
pub trait Hub: Send + Sync + 'static {
    /// Takes in a replica that was identified as `identified` by its certificate.
    ///
    /// # Errors
    /// When it is not served here. The replica tries another controller.
    fn join(
        &self,
        identified: Identified,
        hello: Hello,
    ) -> impl Future<Output = Result<Line, TurnedAway>> + Send;

    /// Learns from where a replica came that it did not take in.
    fn turned_away(&self, _identified: Identified, _address: IpAddr, _why: &TurnedAway) {}
}

/// Whom the certificate of a replica names. The Hello must say the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identified {
    /// The fleet.
    pub fleet: FleetName,
    /// The replica.
    pub replica: kubeng_config::name::ReplicaName,
}

/// Why a replica is not taken in.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TurnedAway {
    /// Its fleet does not exist here.
    #[error("there is no fleet {0}: write a Fleet object of this name, or mend --fleet")]
    UnknownFleet(FleetName),
    /// Its certificate names another fleet or replica than its Hello.
    #[error("the certificate is for replica {} of fleet {}: join with a token of the fleet that is meant", .0.replica, .0.fleet)]
    Mistaken(Identified),
    /// The controller has not read all its sources yet, or is about to end.
    #[error("this controller is not ready: another one is to be asked, or this one later")]
    NotReady,
}
