//! Why the program fails.

use std::error::Error;
use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::server::Address;

/// Why the program ends before it is told to.
#[derive(Debug)]
pub enum StartError {
    /// The command line is wrong; the line says how.
    Flags(String),
    /// Sockets that systemd announced cannot be taken over.
    InheritedSockets(io::Error),
    /// No handler can be set for the signals that stop the program.
    Signals(io::Error),
    /// An address cannot be listened on.
    Listen(Address, io::Error),
    /// The same, by a service that has no network but the sockets it was given.
    NoNetwork(Address, io::Error),
    /// A running server does not answer its health check.
    Unhealthy(Address, io::Error),
    /// A thread or what it needs cannot be had, for this part.
    Thread(&'static str, io::Error),
}

impl StartError {
    /// An error of listening on an address, when sockets were inherited or not.
    /// `rendezvousd.service`, which inherits some, has `AF_UNIX` alone.
    #[must_use]
    pub fn listen(address: &Address, error: io::Error, inherited: bool) -> Self {
        let no_network = error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error());
        if inherited && no_network {
            Self::NoNetwork(address.clone(), error)
        } else {
            Self::Listen(address.clone(), error)
        }
    }

    /// The exit status: 2 if another start would end the same (see
    /// `RestartPreventExitStatus=` in the units), else 1.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Flags(_) | Self::NoNetwork(..) => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flags(line) => f.write_str(line),
            Self::InheritedSockets(error) => {
                write!(f, "cannot take over the sockets passed by systemd: {error}")
            }
            Self::Signals(error) => write!(f, "cannot wait for signals: {error}"),
            Self::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}: {error}: stop the program that has it, perhaps \
                 another rendezvousd (`sudo ss -lntxp` names it), or give one address once: [::] \
                 takes IPv4 too"
            ),
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::NoNetwork(address, error) => write!(
                f,
                "cannot listen on {address}: {error}: rendezvousd.service has no network of its \
                 own; use its sockets (ListenStream=) or rendezvousd-direct.service"
            ),
            Self::Unhealthy(address, error) => write!(f, "{address} is not healthy: {error}"),
            Self::Thread(part, error) => write!(f, "cannot start the {part}: {error}"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Flags(_) => None,
            Self::InheritedSockets(error)
            | Self::Signals(error)
            | Self::Listen(_, error)
            | Self::NoNetwork(_, error)
            | Self::Unhealthy(_, error)
            | Self::Thread(_, error) => Some(error),
        }
    }
}
