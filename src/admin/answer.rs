//! What is found at the operator's port.

use std::time::Duration;

use tiny_http::Method;

use super::Sources;
use crate::http::{Body, Response};

/// How long a worker may take to answer. Their requests take a millisecond
/// at worst.
const PATIENCE: Duration = Duration::from_secs(2);

const PLAIN: &str = "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n";

/// The format's version is part of its media type.
const METRICS: &str =
    "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nCache-Control: no-store\r\n";

impl Sources {
    pub(super) fn answer(&self, method: &Method, path: &str) -> Response {
        match (path, method) {
            ("/health", Method::Get | Method::Head) => self.health(),
            ("/metrics", Method::Get | Method::Head) => {
                Response::new(200, METRICS).with(Body::Text(self.metrics()))
            }
            ("/health" | "/metrics", _) => {
                plain(405, "Only GET and HEAD are understood here").field("Allow", "GET, HEAD")
            }
            _ => plain(404, "There are /health and /metrics"),
        }
    }

    fn health(&self) -> Response {
        if self.probe.is_answered(PATIENCE) {
            plain(200, "ok")
        } else {
            plain(503, "Not every worker answers")
        }
    }
}

fn plain(status: u16, line: &str) -> Response {
    Response::new(status, PLAIN).with(Body::Text(format!("{line}\n")))
}
