//! Everything that is counted since the start, and its formats: Prometheus
//! text, systemd's status line, the minute reports, the closing summary. All
//! are made from one table; a new counter is one entry there.

mod connections;
mod counters;
mod minute;
mod prometheus;
mod report;
mod series;
mod table;

pub use connections::{Connections, Counted, Phase};
pub use counters::{ByStatus, Counter, Durations, Purpose, Requests};
pub use minute::MinuteReports;
pub use prometheus::PAGE_LIMIT;
pub use table::{Counters, Metrics, Snapshot};
