//! The parts of rendezvousd, a rendezvous server for Matrix sign-in with QR
//! code. The program in `main.rs` wires them together; as a library they are
//! there for tests, benchmarks and fuzzers, and promise no stable API.
//!
//! From the ground up, each knowing only those before it: [`clock`],
//! [`draining`], [`block_pool`], [`protocol`], [`session`], [`outcome`], [`client`],
//! [`rate_limit`], [`store`], [`metrics`], [`http`], [`api`], [`server`];
//! beside each other [`reaper`], [`state`], [`admin`], [`systemd`],
//! [`machine`], [`signals`], [`logging`] and [`health`]; on top [`config`], `usage`,
//! [`cli`], [`error`] and [`service`].

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod admin;
pub mod api;
pub mod block_pool;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod draining;
pub mod error;
pub mod health;
pub mod http;
pub mod logging;
pub mod machine;
pub mod metrics;
pub mod outcome;
pub mod protocol;
pub mod rate_limit;
pub mod reaper;
pub mod server;
pub mod service;
pub mod session;
pub mod signals;
pub mod state;
pub mod store;
pub mod systemd;
mod usage;
