//! Everything that is counted since the start, and its formats: Prometheus
//! text, systemd's status line, the minute reports, the closing summary. All
//! are made from one table; a new counter is one entry there. Prometheus gets the
//! process metrics besides.

mod collector;
mod connections;
mod counted;
mod counters;
mod minute;
mod process;
mod prometheus;
mod report;
mod row;
mod series;
mod table;

pub use collector::Metrics;
pub use connections::{Connections, Phase};
pub use counted::Counted;
pub use counters::{ByStatus, Counter, Durations, Purpose, Requests};
pub use minute::MinuteReports;
pub use prometheus::PAGE_LIMIT;
pub use table::{Counters, Snapshot};
