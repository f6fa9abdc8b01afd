//! Addresses, the sockets bound to them and the streams they accept.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use mio::event::Source;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::settings::SOCKET_BUFFER;
use super::stream::Transport;
use crate::client::Peer;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    /// Reads `127.0.0.1:8090`, `[::]:8090` or `unix:/path`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => {
                Err("a Unix socket's path begins with a slash, like unix:/run/r.sock".into())
            }
            None => text.parse().map(Self::Tcp).map_err(|_| correction(text)),
        }
    }
}

/// What to write instead of a text that is no address. A name may stand for
/// several, and a port alone does not tell whether others may connect.
fn correction(text: &str) -> String {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    match port.parse::<u16>() {
        Ok(port) if matches!(host, "" | "*" | "localhost") => format!(
            "write 127.0.0.1:{port} or [::1]:{port} for this machine alone, or [::]:{port} for \
             all addresses"
        ),
        _ => "write 127.0.0.1:8090, [::]:8090 or unix:/path".into(),
    }
}

impl Address {
    /// The URL that a browser on this machine reaches the address by.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        let Self::Tcp(address) = self else {
            return None;
        };
        let mut address = *address;
        match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Some(format!("http://{address}"))
    }

    /// Checks that this process may open sockets of the address's family.
    ///
    /// # Errors
    /// `EAFNOSUPPORT`: where the service manager allows no such sockets, or the
    /// kernel has none.
    pub fn check_family(&self) -> io::Result<()> {
        let family = match self {
            Self::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Self::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
            Self::Unix(_) => AddressFamily::UNIX,
        };
        match rustix::net::socket(family, SocketType::STREAM, None) {
            Err(Errno::AFNOSUPPORT) => Err(Errno::AFNOSUPPORT.into()),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket that is listened on.
#[derive(Debug)]
pub enum Socket {
    /// Of an IP address.
    Tcp(net::TcpListener),
    /// Of a path.
    Unix(unix::UnixListener),
}

impl Socket {
    /// Another handle to the same socket.
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }

    fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Self::Tcp(socket) => Address::Tcp(socket.local_addr()?),
            Self::Unix(socket) => {
                let address = socket.local_addr()?;
                Address::Unix(address.as_pathname().unwrap_or(Path::new("?")).into())
            }
        })
    }
}

/// A bound socket and its address.
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: Socket,
    /// Whether we bound it, so that a Unix socket's file is removed at the end.
    bound: bool,
}

impl Listener {
    /// Binds an address. The file of a Unix socket without a listener is replaced;
    /// dropping the listener removes its file.
    ///
    /// # Errors
    /// When the address is taken, not ours, or not allowed.
    pub fn bind(address: &Address) -> io::Result<Self> {
        let socket = match address {
            Address::Tcp(address) => {
                let socket = net::TcpListener::bind(address)?;
                lengthen_backlog(&socket)?;
                Socket::Tcp(socket)
            }
            Address::Unix(path) => {
                remove_stale(path);
                let socket = unix::UnixListener::bind(path)?;
                lengthen_backlog(&socket)?;
                // Open to all like a loopback port, unless the directory's
                // permissions say otherwise.
                fs::set_permissions(path, Permissions::from_mode(0o666))?;
                Socket::Unix(socket)
            }
        };
        let mut listener = Self::inherit(socket)?;
        listener.bound = true;
        Ok(listener)
    }

    /// Takes over a socket that another process has bound; its file stays.
    ///
    /// # Errors
    /// When it cannot be made ready.
    pub fn inherit(socket: Socket) -> io::Result<Self> {
        if let Socket::Tcp(socket) = &socket {
            // Linux passes these on to accepted connections.
            sockopt::set_tcp_nodelay(socket, true)?;
            sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER)?;
            sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER)?;
        }
        Ok(Self {
            address: socket.address()?,
            socket,
            bound: false,
        })
    }

    /// The address, with the port that port 0 became.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Another handle to the same socket, for one worker.
    pub(super) fn share(&self) -> io::Result<Acceptor> {
        Ok(match self.socket.try_clone()? {
            Socket::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                Acceptor::Tcp(mio::net::TcpListener::from_std(socket))
            }
            Socket::Unix(socket) => {
                socket.set_nonblocking(true)?;
                Acceptor::Unix(mio::net::UnixListener::from_std(socket))
            }
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.bound {
            if let Address::Unix(path) = &self.address {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Lets as many connections wait to be accepted as `net.core.somaxconn` allows:
/// the standard library's 128 fill when a proxy reconnects after our restart.
fn lengthen_backlog(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::listen(socket, i32::MAX)?)
}

/// Removes a socket file left by a server that was killed.
fn remove_stale(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && unix::UnixStream::connect(path).is_err_and(refused) {
        let _ = fs::remove_file(path);
    }
}

/// One worker's handle to a listening socket.
#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

impl Acceptor {
    pub(super) fn accept(&self) -> io::Result<(Stream, Peer)> {
        Ok(match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept()?;
                let peer = Peer::Ip(address.ip().to_canonical());
                (Stream::Tcp(stream), peer)
            }
            Self::Unix(socket) => (Stream::Unix(socket.accept()?.0), Peer::Local),
        })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.register(registry, token, Interest::READABLE),
            Self::Unix(socket) => socket.register(registry, token, Interest::READABLE),
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Stream {
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        // Urgent data is a priority event.
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
        }
    }
}

impl Transport for Stream {
    fn finish(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in ["127.0.0.1:8090", "[::]:0", "0.0.0.0:80"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), format!("http://{text}"));
        }
        let unix: Address = "unix:/run/r.sock".parse().unwrap();
        assert_eq!(unix.to_string(), "unix:/run/r.sock");
        for text in ["", "8090", ":8090", "127.0.0.1", "::1:80", "unix:r", "a:1"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_inherited_socket_is_served_and_its_file_stays() {
        let path = std::env::temp_dir().join(format!("rendezvousd-kept-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let socket = unix::UnixListener::bind(&path).unwrap();
        let listener = Listener::inherit(Socket::Unix(socket)).unwrap();
        assert_eq!(*listener.address(), Address::Unix(path.clone()));
        let _client = unix::UnixStream::connect(&path).unwrap();
        assert_eq!(listener.share().unwrap().accept().unwrap().1, Peer::Local);
        drop(listener);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn accepted_connections_have_the_options_of_the_listener() {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let Address::Tcp(address) = *listener.address() else {
            panic!("no TCP");
        };
        let _client = net::TcpStream::connect(address).unwrap();
        let (stream, peer) = listener.share().unwrap().accept().unwrap();
        assert_eq!(peer, Peer::Ip([127, 0, 0, 1].into()));
        match stream {
            Stream::Tcp(stream) => {
                assert!(stream.nodelay().unwrap());
                let sent = sockopt::socket_send_buffer_size(&stream).unwrap();
                assert_eq!(sent, 2 * SOCKET_BUFFER);
            }
            Stream::Unix(_) => panic!("no TCP"),
        }
    }
}
