//! The model: what a fleet serves, and all that can be computed from it alone.
//!
//! This crate is pure. It knows no Kubernetes, no proxy engine, no async, no
//! clock, no file and no environment; `tests/suite/tidy.rs` keeps it so.
//!
//! # Glossary
//!
//! One word per thing; a new word needs a line here.
//!
//! | word | meaning |
//! |---|---|
//! | Object | what a person wrote, Kubernetes-shaped, from any source |
//! | Rule | one entry of an Object: a path of an Ingress, a rule of an HTTPRoute |
//! | Route | what one Rule became: matches, filters, policy, action |
//! | Listener, Match, Filter, Policy | as in Gateway API; a Filter may edit or answer a request, a Policy only steers how it is forwarded |
//! | Backend, Endpoint, EndpointSet | a named group; one address; all addresses of a group |
//! | Upstream | the kind of Object that describes a service outside containers; it becomes a Backend |
//! | Certificate, Server name | a chain that can be presented; the TLS name that gets it |
//! | Claim, Verdict | whether an Object is ours to serve, by its class, and which hosts and paths it wants; what became of it, for its status |
//! | Fragment | the Routes, Backends, certificate needs and Problems of one Object |
//! | Part | one Route, Listener, Backend, Policy, Certificate or Server name with its Digest |
//! | Snapshot, Digest | all Parts of a fleet, valid and immutable; the hash of its canonical form |
//! | Delta | the difference between two Snapshots; what travels |
//! | Table | the Snapshot compiled for lookup in a replica |
//! | Index | listener, host and path to what serves them |
//! | refused | a Route in its place that answers 500 or 503 because its Rule cannot be honoured |
//! | Problem | something wrong with one Object: field, code, message, remedy |
//! | Statement, Epoch | what a controller says that a fleet shall serve, signed; a term of leadership |
//! | Offer, Question | a Delta with its Statement, sent and not answered; what a replica is asked about itself |
//! | Heartbeat, Drift | what a replica says of itself every few seconds; its difference from what it should serve |
//! | Pulse, Skew | what a replica does by itself because its Fleet says so: heartbeats, looks at what it runs; a replica and a controller of different versions |
//! | Position | how far every source had been read when a Snapshot was made |
//! | Provenance | which source an Object came from, and where in it |
//! | Override, Patch | an Object that changes Routes of others; the part of a Route that it writes |
//! | Layer, Scope | whose word counts where several say something about one Route |
//! | protects, tunes | a member that keeps somebody out or limits somebody; all others |
//! | Fleet, Replica | proxies that serve one Snapshot; one of them |
//! | Feed, Term | what is delivered of one fleet, always the newest; whether a controller leads, and the newest Epoch it knows of |
//! | Settings | how a process runs: ports, paths, roles |
//! | Record, Reason | what is told about one request when it is over; why it failed on our side |
//! | tenant | whose a request is: the namespace of the Route's Object |
//! | Request key | what of a request decides where it goes, counted to replay it |

pub mod address;
pub mod adopt;
pub mod authority;
pub mod backend;
pub mod bounded;
pub mod canonical;
pub mod certificate;
pub mod compact;
pub mod compare;
pub mod delta;
pub mod difference;
pub mod drift;
pub mod editable;
pub mod endpoint;
pub mod explain;
pub mod export;
pub mod filter;
pub mod fleet;
pub mod heartbeat;
pub mod htpasswd;
pub mod index;
pub mod label;
pub mod layer;
pub mod listener;
pub mod matching;
pub mod merge;
mod milliseconds;
pub mod name;
pub mod observed;
pub mod part;
pub mod patch;
pub mod path;
pub mod policy;
pub mod position;
pub mod problem;
pub mod provenance;
pub mod request;
pub mod route;
pub mod snapshot;
pub mod statement;
