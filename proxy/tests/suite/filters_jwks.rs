//! Tokens whose keys a Backend publishes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::Full;
use hyper::Response;
use kubeng_config::backend::BackendProtocol;
use kubeng_config::matching::HostMatch;
use kubeng_config::route::Action;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use tokio::time::{sleep, timeout};

use crate::filters::{ask, filters};
use crate::support::*;

/// An issuer: the key that it signs with, and what it publishes.
struct Issuer {
    address: SocketAddr,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn key() -> Ed25519KeyPair {
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap()
}

fn set(keys: &[(&str, &Ed25519KeyPair)]) -> String {
    let keys: Vec<String> = keys
        .iter()
        .map(|(kid, key)| {
            let x = encode(key.public_key());
            format!(r#"{{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"{kid}","x":"{x}"}}"#)
        })
        .collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// A token for an hour, as a header line.
fn token(kid: &str, key: &Ed25519KeyPair) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let head = format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#);
    let claims = format!(r#"{{"iss":"me","exp":{},"sub":"ann"}}"#, now + 3600);
    let message = format!("{}.{}", encode(head), encode(claims));
    let signature = encode(key.sign(message.as_bytes()));
    format!("Authorization: Bearer {message}.{signature}")
}

impl Issuer {
    async fn start(status: u16, text: String) -> Self {
        let answer = Arc::new(Mutex::new((status, text)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (told, count) = (answer.clone(), asked.clone());
        let address = serve(move |request| {
            assert_eq!(request.uri().path(), "/keys");
            assert_eq!(request.headers()["host"], "idp.example");
            count.fetch_add(1, Ordering::SeqCst);
            let (status, text) = told.lock().unwrap().clone();
            let answer = Response::builder().status(status).header("cache-control", "max-age=3600");
            answer.body(Full::from(text)).unwrap()
        });
        Self { address: address.await, answer, asked }
    }

    fn publish(&self, status: u16, text: String) {
        *self.answer.lock().unwrap() = (status, text);
    }

    /// A replica that takes tokens of this issuer.
    async fn guard(&self) -> Replica {
        let jwt = r#"{"jwt":{"issuer":"me","algorithms":["EdDSA"],
            "claimsToHeaders":[{"claim":"sub","header":"x-sub"}],
            "keys":{"remote":{"backend":"Service/test/idp:80","path":"/keys","host":"idp.example"}}}}"#;
        let mut replica = Replica::start();
        let action = Action::Forward(vec![to("web")]);
        let parts = [
            backend("web", BackendProtocol::Http1),
            backend("idp", BackendProtocol::Http1),
            route("all", HostMatch::Any, "/", filters(&[jwt]), action),
        ];
        let sets = [
            (backend_id("web"), endpoint_set(&[serve_echo().await])),
            (backend_id("idp"), endpoint_set(&[self.address])),
        ];
        replica.change_with(parts, [], sets, []);
        replica
    }
}

/// Asks until the answer has this status.
async fn until(replica: &Replica, token: &str, status: u16) -> Answer {
    let wanted = async {
        loop {
            let answer = ask(replica, "GET /", &[token]).await;
            if answer.status == status {
                return answer;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), wanted).await.unwrap_or_else(|_| panic!("never {status}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_fetched_once_and_a_new_key_is_fetched_when_a_token_names_it() {
    let (first, second) = (key(), key());
    let issuer = Issuer::start(200, set(&[("1", &first)])).await;
    let replica = issuer.guard().await;
    let answer = until(&replica, &token("1", &first), 200).await;
    assert!(answer.body.contains("x-sub: ann\n"), "{answer:?}");
    for wrong in [token("1", &second), token("2", &second), token("2", &first)] {
        assert_eq!(ask(&replica, "GET /", &[&wrong]).await.status, 401);
    }
    // It signs with another key; the answer held for an hour, the token names what is not known.
    issuer.publish(200, set(&[("2", &second)]));
    until(&replica, &token("2", &second), 200).await;
    assert_eq!(ask(&replica, "GET /", &[&token("1", &first)]).await.status, 401, "withdrawn");
    let asked = issuer.asked.load(Ordering::SeqCst);
    assert!(asked <= 10, "asked {asked} times for hundreds of tokens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_keys_nobody_passes_and_good_ones_outlive_a_bad_answer() {
    let (ours, unknown) = (key(), key());
    let issuer = Issuer::start(500, set(&[("1", &ours)])).await;
    let replica = issuer.guard().await;
    let good = token("1", &ours);
    while issuer.asked.load(Ordering::SeqCst) < 2 {
        assert_eq!(ask(&replica, "GET /", &[&good]).await.status, 503);
    }
    assert_eq!(ask(&replica, "GET /", &[]).await.status, 503);
    issuer.publish(200, set(&[("1", &ours)]));
    until(&replica, &good, 200).await;
    let before = issuer.asked.load(Ordering::SeqCst);
    issuer.publish(200, "<html>maintenance</html>".to_owned());
    // It is asked again, for a token that names another key, and what it says is no set of keys.
    while issuer.asked.load(Ordering::SeqCst) == before {
        assert_eq!(ask(&replica, "GET /", &[&token("9", &unknown)]).await.status, 401);
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ask(&replica, "GET /", &[&good]).await.status, 200);
}

/// How many fetches have ended so.
fn fetches(replica: &Replica, outcome: &str) -> u64 {
    let line = format!("kubeng_jwks_fetches_total{{outcome=\"{outcome}\"}} ");
    let text = replica.proxy.facts().metrics();
    text.lines().find_map(|other| other.strip_prefix(&line)).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetches_are_counted_by_how_they_ended() {
    let issuer = Issuer::start(500, String::new()).await;
    let mut replica = issuer.guard().await;
    let until = async |replica: &Replica, outcome: &str| {
        let counted = async {
            while fetches(replica, outcome) == 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(60), counted).await.unwrap_or_else(|_| panic!("no {outcome}"));
    };
    until(&replica, "status").await;
    assert_eq!(fetches(&replica, "ok"), 0);
    issuer.publish(200, "<html>maintenance</html>".to_owned());
    until(&replica, "malformed").await;
    replica.change_with([], [], [(backend_id("idp"), endpoint_set(&[nobody()]))], []);
    until(&replica, "unreachable").await;
    issuer.publish(200, set(&[("1", &key())]));
    replica.change_with([], [], [(backend_id("idp"), endpoint_set(&[issuer.address]))], []);
    until(&replica, "ok").await;
}
