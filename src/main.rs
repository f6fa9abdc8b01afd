//! rendezvousd: lets two Matrix devices meet.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use log::{error, info, warn};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use rendezvousd::admin::{Admin, Sources};
use rendezvousd::api::{
    self, Api, BODY_LIMIT, MSC3886_PATH, MSC4108_PATH, MSC4388_PATH, SIGN_IN_MAX_BYTES, STABLE_PATH,
};
use rendezvousd::cli::{self, Command, Flags};
use rendezvousd::clock::Clock;
use rendezvousd::logging;
use rendezvousd::machine::Memory;
use rendezvousd::rate_limit::{self, RateLimit};
use rendezvousd::reaper::Reaper;
use rendezvousd::report::{self, Totals};
use rendezvousd::server::{self, Address, Deadlines, Heartbeat, Listener, Server, reserve_fds};
use rendezvousd::state;
use rendezvousd::store::Store;
use rendezvousd::systemd::{self, Sockets};

/// What the program takes when it does nothing, in bytes: its code and the
/// libraries' (glibc has some 2 MiB), the heap's first pages, one page of
/// blocks.
const PROGRAM_SIZE: u64 = 4 * 1024 * 1024;

/// How often systemd is told how it goes.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let flags = match cli::parse(env::args_os()) {
        Ok(Command::Serve(flags)) => flags,
        Ok(Command::Print(text)) => {
            // Whoever closed the pipe has read enough.
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(line) => return Fatal::of_flags(line).report(),
    };
    logging::start(flags.log_level);
    match serve(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => fatal.report(),
    }
}

/// Why the program ends before it is told to, and its exit status.
struct Fatal {
    line: String,
    status: u8,
}

impl Fatal {
    /// Wrong flags, which systemd need not try again (see
    /// `RestartPreventExitStatus=` in the units).
    fn of_flags(line: String) -> Self {
        Self { line, status: 2 }
    }

    fn report(self) -> ExitCode {
        logging::fatal(&self.line);
        systemd::failed(&self.line);
        ExitCode::from(self.status)
    }
}

impl From<String> for Fatal {
    /// Something that may be different at the next start.
    fn from(line: String) -> Self {
        Self { line, status: 1 }
    }
}

/// Serves until a signal says to stop.
fn serve(flags: &Flags) -> Result<(), Fatal> {
    // First, lest a descriptor of ours be taken for one that was passed on.
    let inherited = Sockets::inherited()
        .map_err(|error| format!("cannot take over the sockets passed by systemd: {error}"))?;
    let signals = signals().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let sockets = listen(flags, inherited)?;
    let max_connections = connections(flags, sockets.public.len(), sockets.admin.is_some());
    let settings = server::Settings {
        workers: flags.workers.min(max_connections),
        max_connections,
        trusted_proxies: flags.trusted_proxies(),
        largest_body: flags.max_bytes.max(BODY_LIMIT),
        deadlines: Deadlines::default(),
    };
    log_limits(flags, &settings);
    let (store, state_file) = restored(flags);
    let store = Arc::new(store);
    let outcome = run(flags, &settings, sockets, &store, &signals);
    // Also when it could not start: the sessions were those of the last run.
    if let Some(path) = state_file {
        keep(path, &store);
    }
    info!("stopped; {}", outcome?);
    Ok(())
}

/// Serves the sessions of a store; what was counted meanwhile.
fn run(
    flags: &Flags,
    settings: &server::Settings,
    sockets: Sockets,
    store: &Arc<Store>,
    signals: &UnixStream,
) -> Result<Totals, String> {
    let started = Instant::now();
    let Sockets { public, admin } = sockets;
    let addresses: Vec<String> = public.iter().map(|l| l.address().to_string()).collect();
    let api = Arc::new(Api::new(Arc::clone(store), Clock, protocols(flags)));
    let reaper = Reaper::start(Arc::clone(store), Clock)
        .map_err(|error| format!("cannot start the reaper: {error}"))?;
    let server = Server::start(public, settings, &api)
        .map_err(|error| format!("cannot start the workers: {error}"))?;
    let counters = Arc::clone(server.counters());
    let heartbeat = server.heartbeat();
    let sources = Sources {
        store: Arc::clone(store),
        api: Arc::clone(&api),
        counters: Arc::clone(&counters),
        probe: server.probe(&format!("{}/probe", flags.prefix)),
        started,
    };
    let admin = admin
        .map(|listener| start_admin(listener, sources))
        .transpose()?;
    info!("ready on {}", addresses.join(" "));
    systemd::ready();

    let totals = || Totals::read(store, &api, &counters);
    supervise(signals, heartbeat, totals).map_err(|error| format!("cannot wait: {error}"))?;

    systemd::stopping();
    server.stop();
    if let Some(admin) = admin {
        admin.stop();
    }
    reaper.stop();
    Ok(totals())
}

/// Opens the operator's port.
fn start_admin(listener: Listener, sources: Sources) -> Result<Admin, String> {
    let address = listener.address().to_string();
    let admin = Admin::start(listener, sources)
        .map_err(|error| format!("cannot start the operator's port: {error}"))?;
    info!("operator's port on {address}");
    Ok(admin)
}

/// Listens where the flags say and on what was inherited; without either,
/// where the default says.
fn listen(flags: &Flags, mut sockets: Sockets) -> Result<Sockets, Fatal> {
    let activated = sockets.are_inherited();
    let bind = |address: &Address| {
        Listener::bind(address).map_err(|error| cannot_listen(address, &error, activated))
    };
    for address in &flags.listen {
        sockets.public.push(bind(address)?);
    }
    if sockets.public.is_empty() {
        sockets.public.push(bind(&Flags::default_address())?);
    }
    if let Some(address) = &flags.admin {
        sockets.admin = Some(bind(address)?);
    }
    Ok(sockets)
}

/// Why an address cannot be listened on. A service that was given its sockets
/// usually has no network for others (`RestrictAddressFamilies=AF_UNIX`).
fn cannot_listen(address: &Address, error: &io::Error, activated: bool) -> Fatal {
    let line = format!("cannot listen on {address}: {error}");
    let no_network = error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error());
    if activated && no_network {
        return Fatal::of_flags(format!(
            "{line}: rendezvousd.service has no network of its own; use its sockets \
             (ListenStream=) or rendezvousd-direct.service"
        ));
    }
    line.into()
}

/// What the flags say of the protocols.
fn protocols(flags: &Flags) -> api::Settings {
    api::Settings {
        trusted_proxies: flags.trusted_proxies(),
        prefix: flags.prefix.clone(),
        public_url: flags.public_url.clone(),
        ttl: flags.ttl,
        sign_in_ttl: flags.sign_in_ttl,
        max_bytes: flags.max_bytes,
        rate_limit: RateLimit {
            rate: flags.create_rate,
            burst: flags.create_burst,
        },
        check_page: !flags.no_check_page,
    }
}

/// A store with the sessions of the last run, if they were kept, and where to
/// keep them at the end: not over a file of somebody else's.
fn restored(flags: &Flags) -> (Store, Option<&Path>) {
    let mut store = Store::new(flags.max_entries);
    let Some(path) = flags.state_file.as_deref() else {
        return (store, None);
    };
    let shown = path.display();
    match state::load(path, &mut store, flags.largest_payload(), Clock.now()) {
        Ok(0) => {}
        Ok(count) => info!("{count} sessions of the last run go on"),
        Err(error) if error.is_foreign() => {
            warn!("no sessions of the last run go on, and none will be kept: {shown} {error}");
            return (store, None);
        }
        Err(error) => warn!("no sessions of the last run go on: {shown} {error}"),
    }
    (store, Some(path))
}

/// Keeps the sessions in a file, and logs how many are kept and how many not.
fn keep(path: &Path, store: &Store) {
    let shown = path.display();
    match state::save(path, store, Clock.now()) {
        Ok(kept) => {
            info!("{} sessions are kept in {shown}", kept.sessions);
            if let Some(error) = kept.shortage {
                let lost = kept.left_out;
                warn!("{lost} sessions are lost, they do not fit in {shown}: {error}");
            }
        }
        Err(error) => {
            let lost = store.counts().live;
            error!("{lost} sessions are lost, none can be kept in {shown}: {error}");
        }
    }
}

/// Waits for a signal that says to stop. Meanwhile it tells systemd how it
/// goes, and the log what was refused.
fn supervise(
    signals: &UnixStream,
    mut heartbeat: Heartbeat,
    totals: impl Fn() -> Totals,
) -> io::Result<()> {
    let beat = systemd::watchdog();
    let period = beat.unwrap_or(STATUS_PERIOD).min(STATUS_PERIOD);
    signals.set_read_timeout(Some(period))?;
    let mut before = totals();
    let mut reported = Instant::now();
    while !is_told_to_stop(signals) {
        if beat.is_some() && heartbeat.is_steady() {
            systemd::alive();
        }
        let now = totals();
        systemd::status(&now.status());
        if reported.elapsed() < report::PERIOD {
            continue;
        }
        if let Some(line) = now.refused_since(&before) {
            warn!("{line}");
        }
        before = now;
        reported = Instant::now();
    }
    Ok(())
}

/// A stream that has something to read once a signal says to stop.
fn signals() -> io::Result<UnixStream> {
    let (signals, sender) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT, SIGQUIT] {
        pipe::register(signal, sender.try_clone()?)?;
    }
    // nohup(1) starts programs that are to outlive their terminal like this.
    if !is_ignored(SIGHUP) {
        pipe::register(SIGHUP, sender)?;
    }
    // Caught, it lets a write over the limit of file sizes fail instead of
    // ending the process (setrlimit(2)).
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(signals)
}

/// Whether this process was started with a signal ignored (proc_pid_status(5)).
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    lines
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

/// Waits for a signal; false when it has been waited for long enough.
fn is_told_to_stop(mut signals: &UnixStream) -> bool {
    loop {
        match signals.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => return true,
        }
    }
}

/// How many connections the descriptor limit allows.
fn connections(flags: &Flags, listeners: usize, operator: bool) -> usize {
    let room = reserve_fds(flags.max_connections, listeners, flags.workers, operator);
    if room.connections < flags.max_connections {
        warn!(
            "--max-connections {} needs a limit of {} open files and only {} are allowed: \
             {} connections are held at most (systemd: LimitNOFILE={})",
            flags.max_connections, room.needed, room.limit, room.connections, room.needed
        );
    }
    room.connections
}

/// The heaps of the allocator: glibc has one for each worker, unless told
/// otherwise as by our units (mallopt(3)), and musl has one.
fn heaps(workers: usize) -> usize {
    if cfg!(not(target_env = "gnu")) {
        return 1;
    }
    let most = env::var("MALLOC_ARENA_MAX").ok();
    let most = most
        .and_then(|text| text.parse().ok())
        .filter(|most| *most > 0);
    workers.min(most.unwrap_or(usize::MAX))
}

/// Says which limits are in force.
fn log_limits(flags: &Flags, settings: &server::Settings) {
    let heaps = heaps(settings.workers);
    let ceiling = Store::ceiling(flags.max_entries, flags.largest_payload(), heaps);
    info!(
        "rendezvousd {}: MSC3886 and MSC4108 at {}/, {MSC3886_PATH} and {MSC4108_PATH}; \
         MSC4388 at {MSC4388_PATH} and {STABLE_PATH}",
        env!("CARGO_PKG_VERSION"),
        flags.prefix
    );
    if let Some(url) = &flags.public_url {
        info!("clients are told {url}{}/…", flags.prefix);
    }
    info!(
        "limits: {} sessions, MSC3886 of {} bytes for {}, sign-in of {SIGN_IN_MAX_BYTES} bytes \
         for {}; {} connections on {} workers; a client creates {} at once and {} a minute",
        flags.max_entries,
        flags.max_bytes,
        humantime::format_duration(flags.ttl),
        humantime::format_duration(flags.sign_in_ttl),
        settings.max_connections,
        settings.workers,
        flags.create_burst,
        flags.create_rate,
    );
    let buffers = settings.ceiling(heaps);
    let all = [ceiling, buffers, rate_limit::SIZE, PROGRAM_SIZE]
        .into_iter()
        .fold(0, u64::saturating_add);
    info!(
        "memory: at most {} in all: sessions {}, connections {}, client addresses {}, the \
         program {}",
        ByteSize(all),
        ByteSize(ceiling),
        ByteSize(buffers),
        ByteSize(rate_limit::SIZE),
        ByteSize(PROGRAM_SIZE),
    );
    let memory = Memory::available();
    if all > memory.bytes {
        warn!(
            "sessions and connections can take {} and this program can have {memory}: \
             lower --max-entries, --max-bytes or --max-connections",
            ByteSize(all),
        );
    }
}
