//! Everything that is counted since the start, and its formats: Prometheus
//! text, systemd's status line, the minute report, the closing summary. All
//! four are made from one table; a new counter is one entry there.

mod connections;
mod counters;
mod prometheus;
mod report;
mod series;
mod table;

pub use connections::{Connections, Counted, Phase};
pub use counters::{ByStatus, Counter, Durations, Requests};
pub use prometheus::PAGE_LIMIT;
pub use report::PERIOD;
pub use table::{Counters, Metrics, Snapshot};
