//! The running service: its parts, put together from the flags.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use log::{Level, error, info, log, warn};

use crate::admin::{self, Admin};
use crate::api::{
    self, Api, BODY_LIMIT, HELD_POLL_SIZE, MSC3886_PATH, MSC4108_PATH, MSC4388_PATH,
    SIGN_IN_MAX_BYTES, STABLE_PATH,
};
use crate::cli::Flags;
use crate::clock::Clock;
use crate::config::{MAX_CREATIONS, MemoryCeiling, UpTo, heaps};
use crate::draining::Draining;
use crate::error::StartError;
use crate::machine::Memory;
use crate::metrics::{Metrics, MinuteReports, Snapshot};
use crate::rate_limit::{self, RateLimit};
use crate::reaper::Reaper;
use crate::server::{self, Deadlines, Listener, Server, reserve_fds};
use crate::session::NodeName;
use crate::signals::StopSignals;
use crate::state;
use crate::store::Store;
use crate::systemd::{self, Sockets};

/// How often systemd gets a status line.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// How often systemd hears that the stop is still wanted, while draining.
const DRAIN_STEP: Duration = Duration::from_secs(1);

/// Steps without a heartbeat of all workers that end a drain: as the watchdog has
/// waited already, systemd kills in five seconds.
const DRAIN_STALLS: u32 = 2;

/// The time that systemd is asked for each time: what a stop takes, and a pause
/// of the machine.
const STOP_TIME: Duration = Duration::from_secs(10);

/// All parts that run.
#[derive(Debug)]
pub struct Service {
    metrics: Metrics,
    reaper: Reaper,
    server: Server,
    admin: Option<Server>,
    draining: Arc<Draining>,
    reports: MinuteReports,
}

impl Service {
    /// Starts everything; when this returns, requests are answered.
    ///
    /// # Errors
    /// [`StartError::Thread`].
    pub fn start(
        flags: &Flags,
        settings: &server::Settings,
        sockets: Sockets,
        store: &Arc<Store>,
    ) -> Result<Self, StartError> {
        let Sockets { public, admin } = sockets;
        let addresses: Vec<String> = public.iter().map(|l| l.address().to_string()).collect();
        let check_page = check_page(flags, &public);
        let api = Arc::new(Api::new(Arc::clone(store), Clock, api_settings(flags)));
        let reaper = Reaper::start(Arc::clone(store), Clock)
            .map_err(|error| StartError::Thread("reaper", error))?;
        let counters = api.counters();
        let draining = Arc::clone(api.draining());
        let server = Server::start(public, settings, api.clone(), Arc::clone(counters))
            .map_err(|error| StartError::Thread("workers", error))?;
        let (counters, store) = (Arc::clone(counters), Arc::clone(store));
        let metrics = Metrics::new(counters, store, settings.max_connections);
        let probe = server.probe("/");
        let handler = Admin::new(metrics.clone(), probe, Arc::clone(&draining));
        let admin = admin
            .map(|listener| start_admin(listener, handler))
            .transpose()?;
        let check_page = check_page.map_or_else(String::new, |url| format!(" (check page: {url})"));
        info!("ready on {}{check_page}", addresses.join(" "));
        systemd::ready();
        Ok(Self {
            metrics,
            reaper,
            server,
            admin,
            draining,
            // Whatever happens from the first request on.
            reports: MinuteReports::new(Snapshot::default(), Instant::now()),
        })
    }

    /// Serves until a signal says to stop, and then for the time of the drain.
    ///
    /// # Errors
    /// When it cannot wait.
    pub fn supervise(&mut self, signals: &StopSignals, drain: Duration) -> io::Result<()> {
        systemd::status(&self.metrics.snapshot().status());
        self.serve_until(None, signals)?;
        if drain.is_zero() {
            return Ok(());
        }
        let begin = Instant::now();
        self.draining.begin();
        systemd::stopping();
        let shown = humantime::format_duration(drain);
        info!("health checks fail from now on; stopping in {shown}, or at another signal");
        // Sessions are created in the first half still, for load balancers that
        // ask every few seconds, and refused in the second, for those that never
        // ask.
        if self.serve_until(Some(begin + drain / 2), signals)? {
            self.draining.refuse_creations();
            self.serve_until(Some(begin + drain), signals)?;
        }
        Ok(())
    }

    /// Waits for a signal, and while draining until `end` at most; whether that
    /// came first. Meanwhile it tells systemd that all workers have a heartbeat,
    /// and reports to systemd and the log.
    fn serve_until(&mut self, end: Option<Instant>, signals: &StopSignals) -> io::Result<bool> {
        let mut heartbeat = self.server.heartbeat();
        let watchdog = systemd::watchdog_period();
        let period = match end {
            None => watchdog.unwrap_or(STATUS_PERIOD).min(STATUS_PERIOD),
            Some(_) => DRAIN_STEP,
        };
        let mut stalls = 0;
        loop {
            let now = Instant::now();
            let limit = end.map_or(period, |end| end.saturating_duration_since(now).min(period));
            if limit.is_zero() {
                return Ok(true);
            }
            if signals.wait(limit)? {
                return Ok(false);
            }
            if heartbeat.is_steady() {
                stalls = 0;
                if watchdog.is_some() {
                    systemd::ping_watchdog();
                }
                if end.is_some() {
                    systemd::extend_timeout(STOP_TIME);
                }
            } else {
                stalls += 1;
            }
            // The watchdog has said to stop, and kills a server that goes on.
            if end.is_some() && stalls == DRAIN_STALLS {
                return Ok(false);
            }
            let now = self.metrics.snapshot();
            systemd::status(&now.status());
            log_lines(self.reports.due(&now, Instant::now()));
        }
    }

    /// Finishes what has begun, ends all threads and logs what was not reported
    /// yet; what was counted.
    #[must_use]
    pub fn stop(self) -> Snapshot {
        systemd::stopping();
        // First: a health check waits for the workers.
        if let Some(admin) = self.admin {
            admin.stop();
        }
        self.server.stop();
        self.reaper.stop();
        let totals = self.metrics.snapshot();
        log_lines(self.reports.rest(&totals));
        totals
    }
}

fn log_lines(lines: impl IntoIterator<Item = (Level, String)>) {
    for (level, line) in lines {
        log!(level, "{line}");
    }
}

/// The URL of the check page, if there is one that a browser can open.
fn check_page(flags: &Flags, public: &[Listener]) -> Option<String> {
    let mut local = public.iter().filter_map(|l| l.address().url());
    let origin = match &flags.public_url {
        Some(url) => url.to_string(),
        None => local.next()?,
    };
    (!flags.no_check_page).then(|| format!("{origin}{}/check", &*flags.prefix))
}

fn start_admin(listener: Listener, handler: Admin) -> Result<Server, StartError> {
    let address = listener.address().to_string();
    let handler = Arc::new(handler);
    let admin = Server::start(vec![listener], &admin::settings(), handler, Arc::default())
        .map_err(|error| StartError::Thread("admin port", error))?;
    info!("admin port on {address}");
    Ok(admin)
}

fn api_settings(flags: &Flags) -> api::Settings {
    api::Settings {
        trusted_proxies: flags.trusted_proxies(),
        prefix: flags.prefix.to_string(),
        public_url: flags.public_url.as_ref().map(|url| url.to_string()),
        node: flags.node,
        ttl: flags.ttl.0,
        sign_in_ttl: flags.sign_in_ttl.0,
        max_bytes: flags.max_bytes.0,
        long_poll: flags.long_poll.0,
        rate_limit: RateLimit {
            rate: creations(flags.create_rate),
            burst: creations(flags.create_burst),
        },
        check_page: !flags.no_check_page,
    }
}

fn creations(number: UpTo<MAX_CREATIONS>) -> u32 {
    u32::try_from(number.0).unwrap_or(u32::MAX)
}

/// The server's settings, with no more connections than there can be file
/// descriptors.
#[must_use]
pub fn server_settings(flags: &Flags, listeners: usize, admin: bool) -> server::Settings {
    let wanted = flags.max_connections.0;
    let fds = reserve_fds(wanted, listeners, flags.workers.0, admin);
    if fds.connections < wanted {
        warn!(
            "--max-connections {wanted} needs a limit of {} open files and only {} are allowed: \
             {} connections are held at most (systemd: LimitNOFILE={})",
            fds.needed, fds.limit, fds.connections, fds.needed
        );
    }
    server::Settings {
        workers: flags.workers.0.min(fds.connections),
        max_connections: fds.connections,
        trusted_proxies: flags.trusted_proxies(),
        largest_body: flags.max_bytes.0.max(BODY_LIMIT),
        deadlines: Deadlines::default(),
    }
}

/// Logs the limits in force and the memory that they add up to.
pub fn log_limits(flags: &Flags, settings: &server::Settings, has_admin_port: bool) {
    let prefix = &*flags.prefix;
    info!(
        "rendezvousd {}: MSC3886 and MSC4108 at {prefix}/, {MSC3886_PATH} and {MSC4108_PATH}; \
         MSC4388 at {MSC4388_PATH} and {STABLE_PATH}",
        env!("CARGO_PKG_VERSION"),
    );
    if let Some(url) = &flags.public_url {
        info!("clients are told {}{prefix}/…", &**url);
    }
    if let Some(node) = flags.node {
        info!("this is node {node}: ids of its sessions begin with {node}.");
    }
    info!(
        "limits: {} sessions, MSC3886 of {} bytes for {}, sign-in of {SIGN_IN_MAX_BYTES} bytes \
         for {}; {} connections on {} workers; a client creates {} at once and {} a minute; \
         polls are held for {}",
        flags.max_entries.0,
        flags.max_bytes.0,
        humantime::format_duration(flags.ttl.0),
        humantime::format_duration(flags.sign_in_ttl.0),
        settings.max_connections,
        settings.workers,
        flags.create_burst.0,
        flags.create_rate.0,
        humantime::format_duration(flags.long_poll.0),
    );
    let heaps = heaps(settings.workers);
    let held = (HELD_POLL_SIZE * heaps).saturating_mul(settings.max_held()) as u64;
    let ceiling = MemoryCeiling {
        sessions: Store::ceiling(flags.max_entries(), flags.largest_payload(), heaps),
        connections: settings.ceiling(heaps).saturating_add(held),
        clients: rate_limit::SIZE,
        admin: if has_admin_port {
            admin::settings().small_ceiling()
        } else {
            0
        },
    };
    info!("memory: {ceiling}");
    let memory = Memory::available();
    if ceiling.total() > memory.bytes {
        warn!(
            "sessions and connections can take {} and this program can have {memory}: \
             lower --max-entries, --max-bytes or --max-connections",
            ByteSize(ceiling.total()),
        );
    }
}

/// A store with the sessions of the last run, if they were kept, and the file
/// to keep them in at the end: not one of somebody else's.
#[must_use]
pub fn restore(flags: &Flags) -> (Store, Option<&Path>) {
    let mut store = Store::new(flags.max_entries());
    let Some(path) = flags.state_file.as_deref() else {
        return (store, None);
    };
    let shown = path.display();
    let largest = flags.largest_payload();
    match state::load(path, &mut store, largest, flags.node, Clock.now()) {
        Ok(0) => {}
        Ok(count) => info!("restored {count} sessions from {shown}"),
        Err(error) if error.is_foreign() => {
            warn!("restored no sessions, and none will be kept: {shown} {error}");
            return (store, None);
        }
        Err(error) => warn!("restored no sessions: {shown} {error}"),
    }
    (store, Some(path))
}

/// Keeps the sessions in a file, and logs how many are kept and how many not.
pub fn keep(path: &Path, store: &Store, node: Option<NodeName>) {
    let shown = path.display();
    match state::save(path, store, node, Clock.now()) {
        Ok(kept) => {
            info!("kept {} sessions in {shown}", kept.sessions);
            if let Some(error) = kept.shortage {
                let lost = kept.left_out;
                warn!("{lost} sessions are lost, they do not fit in {shown}: {error}");
            }
        }
        Err(error) => match store.counts().live {
            0 => warn!("no sessions could be kept in {shown}: {error}"),
            lost => error!("{lost} sessions are lost, none can be kept in {shown}: {error}"),
        },
    }
}
