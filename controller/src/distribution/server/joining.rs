//! Certificates for replicas: with a join token, or with the certificate that they have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use kubeng_config::canonical::Digest;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::super::authority::token::TokenError;
use super::super::authority::{Authority, IssueError};
use super::super::line::Identified;
use super::super::wire::in_full;
use super::super::wire::proto::joining_server::Joining;
use super::super::wire::proto::{Certified, JoinRequest, RenewRequest};
use super::Peer;
use crate::distribution::tls::RENEW_GRACE;

/// The largest request.
pub(super) const REQUEST_BYTES_MAX: usize = 64 * 1024;

pub(super) struct Service {
    authority: Arc<Authority>,
}

impl Service {
    pub(super) fn new(authority: Arc<Authority>) -> Self {
        Self { authority }
    }

    /// Issues, where files may be read and written.
    async fn issue(
        &self,
        issue: impl FnOnce(&Authority) -> Result<Certified, Status> + Send + 'static,
    ) -> Result<Response<Certified>, Status> {
        let authority = Arc::clone(&self.authority);
        tokio::task::spawn_blocking(move || issue(&authority))
            .await
            .map_err(|_| Status::internal("the controller could not issue the certificate"))?
            .map(Response::new)
    }
}

#[tonic::async_trait]
impl Joining for Service {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<Certified>, Status> {
        let address = peer(&request)?.address;
        let request = request.into_inner();
        let wrong = |error: &dyn std::error::Error| Status::invalid_argument(in_full(error));
        let fleet = request.fleet.parse().map_err(|error| wrong(&error))?;
        let replica = request.replica.parse().map_err(|error| wrong(&error))?;
        let to = Identified { fleet, replica };
        self.issue(move |authority| {
            let now = SystemTime::now();
            let may_not = |error: TokenError| {
                warn!(%address, fleet = %to.fleet, replica = %to.replica, error = in_full(&error),
                    "a replica may not join");
                refused(&error)
            };
            // Whether it can be certified is known before its token is used up.
            let labels = authority.labels_of(&request.token, &to.fleet, now).map_err(may_not)?;
            let certified = certify(authority, (&to, &labels), &request.request, now)?;
            let key = key_of(&request.request)?;
            authority.redeem(&request.token, &to.fleet, key, now).map_err(may_not)?;
            info!(%address, fleet = %to.fleet, replica = %to.replica, "a replica has joined");
            Ok(certified)
        })
        .await
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Certified>, Status> {
        let peer = peer(&request)?;
        let (to, ends) = peer.certified()?;
        let labels = peer.labels();
        let request = request.into_inner();
        self.issue(move |authority| {
            let now = SystemTime::now();
            // The connection may be older than the end of its certificate.
            if now > ends + RENEW_GRACE {
                return Err(Status::unauthenticated("the certificate ended too long ago"));
            }
            certify(authority, (&to, &labels), &request.request, now)
        })
        .await
    }
}

fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Status::internal("the connection is not known"))
}

fn certify(
    authority: &Authority,
    (to, labels): (&Identified, &BTreeMap<String, String>),
    request: &[u8],
    now: SystemTime,
) -> Result<Certified, Status> {
    let made = authority.issue_replica(to, labels, request, now).map_err(|error| match error {
        IssueError::Name(_) | IssueError::Request(_) => Status::invalid_argument(in_full(&error)),
        IssueError::Elsewhere => Status::unimplemented(in_full(&error)),
    })?;
    let signing = hex::decode(authority.signing_public_key()).unwrap_or_default();
    Ok(Certified {
        certificate: made.to_vec().into(),
        authorities: vec![authority.certificate().to_vec().into()],
        signing_keys: vec![signing.into()],
    })
}

/// The digest of the key of a certificate request, whose signature has been verified.
fn key_of(request: &[u8]) -> Result<Digest, Status> {
    use x509_parser::prelude::FromDer as _;
    let parsed = x509_parser::certification_request::X509CertificationRequest::from_der(request);
    let (_, parsed) =
        parsed.map_err(|_| Status::invalid_argument("the certificate request is none"))?;
    Ok(Digest::of([parsed.certification_request_info.subject_pki.raw]))
}

fn refused(error: &TokenError) -> Status {
    let text = in_full(error);
    match error {
        TokenError::Form => Status::invalid_argument(text),
        TokenError::Altered { .. }
        | TokenError::Ended { .. }
        | TokenError::Used { .. }
        | TokenError::OtherFleet { .. } => Status::permission_denied(text),
        TokenError::Note(_) => Status::unavailable(text),
    }
}
