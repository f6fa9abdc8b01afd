//! rendezvousd: lets two Matrix devices meet.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

use bytesize::ByteSize;
use log::{info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use rendezvousd::api::{
    self, Api, BODY_LIMIT, MSC3886_PATH, MSC4108_PATH, MSC4388_PATH, SIGN_IN_MAX_BYTES, STABLE_PATH,
};
use rendezvousd::cli::{self, Command, Flags};
use rendezvousd::clock::Clock;
use rendezvousd::logging;
use rendezvousd::quota::{self, Allowance};
use rendezvousd::reaper::Reaper;
use rendezvousd::report::{self, Totals};
use rendezvousd::server::{self, Deadlines, Listener, Server, make_room};
use rendezvousd::store::Store;

fn main() -> ExitCode {
    let flags = match cli::parse(std::env::args_os()) {
        Ok(Command::Serve(flags)) => flags,
        Ok(Command::Print(text)) => {
            // Whoever closed the pipe has read enough.
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(line) => {
            eprintln!("rendezvousd: {line}");
            return ExitCode::from(2);
        }
    };
    logging::start(flags.log_level);
    match serve(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("rendezvousd: {line}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal says to stop.
fn serve(flags: Flags) -> Result<(), String> {
    let signals = signals().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let max_connections = connections(&flags);
    let settings = server::Settings {
        workers: flags.workers.min(max_connections),
        max_connections,
        trusted_proxies: flags.trusted_proxies(),
        largest_body: flags.max_bytes.max(BODY_LIMIT),
        deadlines: Deadlines::default(),
    };
    let listeners = flags
        .listen
        .iter()
        .map(|address| {
            Listener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    describe(&flags, &settings);
    let addresses: Vec<String> = listeners.iter().map(|l| l.address().to_string()).collect();

    let clock = Clock::start();
    let store = Arc::new(Store::new(flags.max_entries));
    let api = Arc::new(Api::new(
        Arc::clone(&store),
        clock,
        api::Settings {
            trusted_proxies: flags.trusted_proxies(),
            prefix: flags.prefix,
            public_url: flags.public_url,
            ttl: flags.ttl,
            sign_in_ttl: flags.sign_in_ttl,
            max_bytes: flags.max_bytes,
            allowance: Allowance {
                rate: flags.create_rate,
                burst: flags.create_burst,
            },
        },
    ));
    let reaper = Reaper::start(Arc::clone(&store), clock)
        .map_err(|error| format!("cannot start the reaper: {error}"))?;
    let server = Server::start(listeners, &settings, &api)
        .map_err(|error| format!("cannot start the workers: {error}"))?;
    info!("ready on {}", addresses.join(" "));

    let counters = Arc::clone(server.counters());
    let totals = || Totals::read(&store, &api, &counters);
    let mut before = totals();
    while !is_told_to_stop(&signals) {
        let now = totals();
        if let Some(line) = now.refused_since(&before) {
            warn!("{line}");
        }
        before = now;
    }
    server.stop();
    reaper.stop();
    info!("stopped; {}", totals());
    Ok(())
}

/// A stream that has something to read once a signal says to stop, and whose
/// reads end after the period of a report.
fn signals() -> io::Result<UnixStream> {
    let (signals, sender) = UnixStream::pair()?;
    signals.set_read_timeout(Some(report::PERIOD))?;
    pipe::register(SIGTERM, sender.try_clone()?)?;
    pipe::register(SIGINT, sender)?;
    Ok(signals)
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
fn connections(flags: &Flags) -> usize {
    let room = make_room(flags.max_connections, flags.listen.len(), flags.workers);
    if room.connections < flags.max_connections {
        warn!(
            "--max-connections {} needs a limit of {} open files and only {} are allowed: \
             {} connections are held at most (systemd: LimitNOFILE={})",
            flags.max_connections, room.needed, room.limit, room.connections, room.needed
        );
    }
    room.connections
}

/// Says which limits are in force.
fn describe(flags: &Flags, settings: &server::Settings) {
    let payload = flags.max_bytes.max(SIGN_IN_MAX_BYTES);
    let ceiling = Store::ceiling(flags.max_entries, payload);
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
         for {}; {} connections on {} workers",
        flags.max_entries,
        flags.max_bytes,
        humantime::format_duration(flags.ttl),
        humantime::format_duration(flags.sign_in_ttl),
        settings.max_connections,
        settings.workers,
    );
    let buffers = settings.ceiling();
    let all = ceiling.saturating_add(buffers).saturating_add(quota::SIZE);
    info!(
        "memory: at most {} in all: sessions {}, connections {}, client addresses {}",
        ByteSize(all),
        ByteSize(ceiling),
        ByteSize(buffers),
        ByteSize(quota::SIZE),
    );
    let machine = rustix::system::sysinfo();
    let memory = (machine.totalram as u64).saturating_mul(machine.mem_unit.into());
    if all > memory {
        warn!(
            "sessions and connections can take {} and this machine has {}: \
             lower --max-entries, --max-bytes or --max-connections",
            ByteSize(all),
            ByteSize(memory),
        );
    }
}
