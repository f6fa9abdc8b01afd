//! The admin port's handler: /health and /metrics for the operator's programs,
//! and nothing for web pages.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tiny_http::Method;

use crate::client::{Peer, TrustedProxies};
use crate::draining::Draining;
use crate::http::{Answer, Body, Handler, Head, Rejection, Request, Response, WakerSource};
use crate::metrics::{Metrics, PAGE_LIMIT};
use crate::server::{Deadlines, Probe, Settings};

/// Connections held at once: enough for some scrapers, health checks and
/// people; a newer one takes the place of the one idle for longest.
const CONNECTIONS: usize = 16;

/// How long a worker may take to answer a probe. A request takes a millisecond
/// at worst.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the outcome of a probe is valid. The metrics wait while a probe
/// runs; between two of them they do not, however many clients ask for health.
const HEALTH_PERIOD: Duration = Duration::from_secs(1);

const PLAIN: &str = "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n";

/// The format's version is part of its media type.
const METRICS: &str =
    "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\nCache-Control: no-store\r\n";

/// The server settings of the admin port.
#[must_use]
pub fn settings() -> Settings {
    Settings {
        workers: 1,
        max_connections: CONNECTIONS,
        trusted_proxies: TrustedProxies::default(),
        largest_body: PAGE_LIMIT,
        deadlines: Deadlines {
            // A scraper that keeps its connection must not delay a restart.
            stop: Duration::ZERO,
            ..Deadlines::default()
        },
    }
}

/// The admin port's handler.
#[derive(Debug)]
pub struct Admin {
    metrics: Metrics,
    probe: Probe,
    draining: Arc<Draining>,
    /// The last probe's end and outcome.
    health: Mutex<Option<(Instant, bool)>>,
}

impl Admin {
    /// A handler that shows these metrics and probes these workers, until they
    /// are draining.
    #[must_use]
    pub fn new(metrics: Metrics, probe: Probe, draining: Arc<Draining>) -> Self {
        Self {
            metrics,
            probe,
            draining,
            health: Mutex::default(),
        }
    }

    fn health(&self, now: Instant) -> Response {
        if self.draining.has_begun() {
            return plain(503, "This server is about to stop");
        }
        let mut last = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = last.filter(|(at, _)| now.saturating_duration_since(*at) < HEALTH_PERIOD);
        let answered = match recent {
            Some((_, answered)) => answered,
            None => {
                let answered = self.probe.is_answered(PROBE_TIMEOUT);
                *last = Some((Instant::now(), answered));
                answered
            }
        };
        if answered {
            plain(200, "ok")
        } else {
            plain(503, "Not every worker answers")
        }
    }
}

impl Handler for Admin {
    fn respond(&self, request: &Request<'_, '_>, peer: Peer, _: WakerSource<'_>) -> Answer {
        self.response(&request.head, peer).into()
    }

    fn reject(&self, rejection: Rejection) -> Response {
        plain(rejection.status.0, rejection.reason)
    }
}

impl Admin {
    fn response(&self, head: &Head<'_, '_>, peer: Peer) -> Response {
        if peer != Peer::Local && !head.host.is_some_and(is_address_or_localhost) {
            return plain(403, "The Host must be an IP address or localhost");
        }
        if is_from_web_page(head) {
            return plain(403, "Web pages have no access");
        }
        match (head.path, &head.method) {
            ("/health", Method::Get | Method::Head) => self.health(Instant::now()),
            ("/metrics", Method::Get | Method::Head) => {
                Response::new(200, METRICS).with(Body::Text(self.metrics.snapshot().prometheus()))
            }
            ("/health" | "/metrics", _) => {
                plain(405, "Only GET and HEAD are understood here").field("Allow", "GET, HEAD")
            }
            _ => plain(404, "There are /health and /metrics"),
        }
    }
}

fn plain(status: u16, line: &str) -> Response {
    Response::new(status, PLAIN).with(Body::Text(format!("{line}\n")))
}

/// Whether a host, with or without a port, cannot be a name that somebody else
/// points at this machine (DNS rebinding).
fn is_address_or_localhost(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Whether a browser sends the request for a web page. `none` is the user, at
/// the address bar.
fn is_from_web_page(head: &Head<'_, '_>) -> bool {
    let mut sites = head.values("Sec-Fetch-Site");
    head.value("Origin").is_some() || sites.any(|site| site != b"none")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::http::{Decoder, Status};
    use crate::metrics::Counters;
    use crate::server::{Listener, Server};
    use crate::store::Store;

    /// The admin port's handler, and the server that it watches.
    fn watched() -> (Admin, Server) {
        struct Silent;
        impl Handler for Silent {
            fn respond(&self, _: &Request<'_, '_>, _: Peer, _: WakerSource<'_>) -> Answer {
                Response::new(204, "").into()
            }
            fn reject(&self, _: Rejection) -> Response {
                Response::new(400, "")
            }
        }
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let counters = Arc::new(Counters::default());
        let ours = Arc::clone(&counters);
        let server = Server::start(vec![listener], &settings(), Arc::new(Silent), ours).unwrap();
        let store = Arc::new(Store::new(NonZeroUsize::MIN));
        let metrics = Metrics::new(counters, store, 1);
        let admin = Admin::new(metrics, server.probe("/"), Arc::default());
        (admin, server)
    }

    fn status(admin: &Admin, request: &str, peer: Peer) -> u16 {
        let mut decoder = Decoder::default();
        decoder.push(request.as_bytes());
        match decoder.step(|request| Ok(admin.response(&request.head, peer))) {
            Ok(Status::Complete(response)) => response.status.0,
            _ => panic!("no request: {request:?}"),
        }
    }

    #[test]
    fn only_addresses_and_localhost_are_hosts_and_no_web_page_is_served() {
        let (admin, server) = watched();
        let peer = Peer::Ip([127, 0, 0, 1].into());
        let ask = |fields: &str, peer| {
            status(
                &admin,
                &format!("GET /metrics HTTP/1.0\r\n{fields}\r\n"),
                peer,
            )
        };
        for host in [
            "localhost",
            "LocalHost:8091",
            "127.0.0.1:8091",
            "192.0.2.7",
            "[::1]",
            "[2001:db8::1]:80",
        ] {
            let host = format!("Host: {host}\r\n");
            assert_eq!(ask(&host, peer), 200, "{host}");
            assert_eq!(ask(&format!("{host}Sec-Fetch-Site: none\r\n"), peer), 200);
            for page in [
                "Origin: null\r\n",
                "Origin: http://localhost:8091\r\n",
                "Sec-Fetch-Site: cross-site\r\n",
                "Sec-Fetch-Site: same-origin\r\n",
                "Sec-Fetch-Site: none\r\nSec-Fetch-Site: same-site\r\n",
            ] {
                for peer in [peer, Peer::Local] {
                    assert_eq!(ask(&format!("{host}{page}"), peer), 403, "{page}");
                }
            }
        }
        for host in [
            "",
            "Host:\r\n",
            "Host: matrix.example\r\n",
            "Host: localhost.example:8091\r\n",
            "Host: 127.0.0.1.example\r\n",
            "Host: 127.1\r\n",
            "Host: 2130706433\r\n",
        ] {
            assert_eq!(ask(host, peer), 403, "{host}");
            assert_eq!(ask(host, Peer::Local), 200, "{host}");
        }
        // The target's authority replaces the field.
        let absolute = "GET http://matrix.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(status(&admin, absolute, peer), 403);
        server.stop();
    }

    #[test]
    fn health_is_probed_once_a_period_however_many_ask() {
        let (admin, server) = watched();
        let probes = || server.counters().accepted.get();
        let start = Instant::now();
        for at in [start, start, start + HEALTH_PERIOD / 2] {
            assert_eq!(admin.health(at).status.0, 200);
            assert_eq!(probes(), 1);
        }
        assert_eq!(admin.health(start + 100 * HEALTH_PERIOD).status.0, 200);
        assert_eq!(probes(), 2);
        // Without workers it fails, and not before the period is over.
        server.stop();
        let later = start + 200 * HEALTH_PERIOD;
        assert_eq!(admin.health(later).status.0, 503);
    }

    #[test]
    fn the_printed_memory_is_of_a_few_megabytes() {
        let size = settings().small_ceiling();
        assert!((1 << 20..8 << 20).contains(&size), "{size}");
    }
}
