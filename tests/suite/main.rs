//! The whole product over real sockets; one module per promise.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin;
mod broken_ingress;
mod client_certificates;
mod clients;
mod cluster;
mod commands;
mod controller;
mod demo;
mod fleet_care;
mod fleet_commands;
mod fleet_faults;
mod fleet_home;
mod fleet_input;
mod fleets;
mod ingress;
mod limits;
mod listener_tls;
mod listeners;
mod log;
mod names;
mod observe;
mod overrides;
mod pages;
mod reload;
mod replicas;
mod schemes;
mod scrape;
mod shutdown;
mod start;
mod support;
mod tidy;
mod upgrade;
mod upgrade_command;
mod upstream;
mod watched;
