//! rendezvousd: lets two Matrix devices meet.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use log::info;

use rendezvousd::cli::{self, Command, Flags};
use rendezvousd::error::StartError;
use rendezvousd::health;
use rendezvousd::logging;
use rendezvousd::server::{Address, Listener};
use rendezvousd::service::{self, Service};
use rendezvousd::signals::StopSignals;
use rendezvousd::systemd::{self, Sockets};

fn main() -> ExitCode {
    let done = match cli::parse(env::args_os()) {
        Ok(Command::Serve(flags)) => serve(&flags),
        Ok(Command::Check(flags)) => check(&flags),
        Ok(Command::Probe(addresses)) => probe(&addresses),
        Ok(Command::Print(text)) => {
            // A reader that has closed the pipe has read enough.
            let _ = io::stdout().write_all(text.as_bytes());
            Ok(())
        }
        Err(line) => Err(StartError::Flags(line)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &StartError) -> ExitCode {
    let line = error.to_string();
    logging::fatal(&line);
    systemd::failed(&line);
    ExitCode::from(error.exit_status())
}

/// Serves until a signal says to stop.
fn serve(flags: &Flags) -> Result<(), StartError> {
    logging::start(flags.log_level);
    // Before anything is opened, so that no file descriptor of ours is taken for
    // one passed on.
    let inherited = Sockets::inherited().map_err(StartError::InheritedSockets)?;
    let signals = StopSignals::catch().map_err(StartError::Signals)?;
    let sockets = listen(flags, inherited)?;
    let has_admin_port = sockets.admin.is_some();
    let settings = service::server_settings(flags, sockets.public.len(), has_admin_port);
    service::log_limits(flags, &settings, has_admin_port);
    let (store, state_file) = service::restore(flags);
    let store = Arc::new(store);
    let outcome = Service::start(flags, &settings, sockets, &store).and_then(|mut service| {
        let waited = service.supervise(&signals, flags.drain.0);
        let totals = service.stop();
        waited.map(|()| totals).map_err(StartError::Signals)
    });
    // Also after a failed start: the sessions are those of the last run.
    if let Some(path) = state_file {
        service::keep(path, &store, flags.node);
    }
    info!("stopped; {}", outcome?);
    Ok(())
}

/// Says what the flags come to, as at a start, and whether the addresses among
/// them can be listened on where this runs.
fn check(flags: &Flags) -> Result<(), StartError> {
    logging::start(flags.log_level);
    for address in flags.listen.iter().chain(&flags.admin) {
        if let Err(error) = address.check_family() {
            return Err(StartError::NoNetwork(address.clone(), error));
        }
    }
    let has_admin_port = flags.admin.is_some();
    let listeners = flags.listen.len().max(1);
    let settings = service::server_settings(flags, listeners, has_admin_port);
    service::log_limits(flags, &settings, has_admin_port);
    info!("these flags are valid");
    Ok(())
}

/// Asks a running server at each of these addresses whether it answers.
fn probe(addresses: &[Address]) -> Result<(), StartError> {
    addresses.iter().try_for_each(|address| {
        health::check(address).map_err(|error| StartError::Unhealthy(address.clone(), error))
    })
}

/// Listens on the flags' addresses and the inherited sockets, or on the default
/// address if there are neither.
fn listen(flags: &Flags, mut sockets: Sockets) -> Result<Sockets, StartError> {
    let inherited = sockets.are_inherited();
    let bind = |address: &Address| {
        Listener::bind(address).map_err(|error| StartError::listen(address, error, inherited))
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
