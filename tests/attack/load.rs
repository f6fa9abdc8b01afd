//! Many connections that misbehave in one way.
//!
//! Every attack is a load: what its connections say first, what they repeat
//! after that, how fast, and when they leave. A connection that the server
//! has closed is opened again. One thread has room for many loads, so that the
//! attackers are not stronger than the machine they share with the server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

/// The peer whose `X-Forwarded-For` the server believes.
pub(crate) const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// The attacker who has one address only. The bystander have 127.0.0.1.
pub(crate) const SINGLE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Closed connections opened again before those at hand get a turn.
const OPENINGS: usize = 200;

/// Bytes written and read at a time.
const BLOCK: usize = 64 * 1024;

/// The rest after a turn in which nothing could be done.
const PAUSE: Duration = Duration::from_millis(1);

/// Where the connections of a load come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// One address.
    Single,
    /// So many addresses in turn.
    Many(usize),
    /// The reverse proxy.
    Proxy,
}

impl Origin {
    /// The address of the connection of this number; always a loopback one.
    pub(crate) fn address(self, number: usize) -> Ipv4Addr {
        match self {
            Self::Single => SINGLE,
            Self::Proxy => PROXY,
            Self::Many(count) => {
                let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
                let number = number % count;
                Ipv4Addr::new(127, 1, byte(number / 250), byte(number % 250 + 1))
            }
        }
    }
}

/// When a connection leaves of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    Never,
    WhenSent,
    /// A turn after that.
    AfterRest,
    WhenAnswered,
}

#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) size: usize,
    origin: Origin,
    /// Said first, one of them by each connection in turn.
    openings: Vec<Vec<u8>>,
    /// Said after that, again and again, one of them by each connection in turn.
    refrains: Vec<Vec<u8>>,
    /// Bytes of it that a connection says in one turn.
    step: usize,
    /// The time between two turns.
    rest: Duration,
    deaf: bool,
    /// Says the next step of its refrain only after it has heard something.
    patient: bool,
    parting: Parting,
}

impl Load {
    /// Connections that say nothing.
    pub(crate) fn new(size: usize, origin: Origin) -> Self {
        Self {
            size,
            origin,
            openings: vec![Vec::new()],
            refrains: vec![Vec::new()],
            step: BLOCK,
            rest: Duration::ZERO,
            deaf: false,
            patient: false,
            parting: Parting::Never,
        }
    }

    pub(crate) fn opening(self, opening: impl Into<Vec<u8>>) -> Self {
        self.openings(vec![opening.into()])
    }

    pub(crate) fn openings(mut self, openings: Vec<Vec<u8>>) -> Self {
        self.openings = openings;
        self
    }

    pub(crate) fn refrain(self, refrain: impl Into<Vec<u8>>) -> Self {
        self.refrains(vec![refrain.into()])
    }

    pub(crate) fn refrains(mut self, refrains: Vec<Vec<u8>>) -> Self {
        self.refrains = refrains;
        self
    }

    /// Not as fast as it goes, but so many bytes every so often.
    pub(crate) fn slowly(mut self, step: usize, rest: Duration) -> Self {
        self.step = step;
        self.rest = rest;
        self
    }

    /// Never reads.
    pub(crate) fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    /// Waits for an answer before it says the next step of its refrain.
    pub(crate) fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    pub(crate) fn parting(mut self, parting: Parting) -> Self {
        self.parting = parting;
        self
    }
}

/// Lets loads attack in turns, on this thread, until told to stop.
pub(crate) fn attack(loads: &[Load], server: SocketAddrV4, stop: &AtomicBool) {
    let mut input = vec![0; BLOCK];
    let mut bands: Vec<Band> = loads.iter().map(Band::new).collect();
    while !stop.load(Ordering::Relaxed) {
        let mut busy = false;
        for band in &mut bands {
            let now = Instant::now();
            if band.due <= now {
                busy |= band.turn(server, &mut input);
                band.due = now + band.load.rest;
            }
        }
        if !busy {
            thread::sleep(PAUSE);
        }
    }
}

/// A load that attacks.
struct Band<'s> {
    load: &'s Load,
    links: Vec<Option<Link>>,
    /// Connections opened so far.
    opened: usize,
    due: Instant,
}

impl<'s> Band<'s> {
    fn new(load: &'s Load) -> Self {
        let mut links = Vec::new();
        links.resize_with(load.size, || None);
        Self {
            load,
            links,
            opened: 0,
            due: Instant::now(),
        }
    }

    /// Gives each connection a turn; whether anything was done.
    fn turn(&mut self, server: SocketAddrV4, input: &mut [u8]) -> bool {
        let mut busy = false;
        let all = self.opened < self.load.size;
        let mut openings = if all { self.load.size } else { OPENINGS };
        for (index, slot) in self.links.iter_mut().enumerate() {
            if slot.is_none() && openings > 0 {
                let from = self.load.origin.address(index);
                *slot = Link::open(from, server, self.opened).ok();
                openings -= 1;
                self.opened += 1;
            }
            if let Some(link) = slot {
                match link.turn(self.load, input) {
                    Ok(progress) => busy |= progress,
                    Err(_) => *slot = None,
                }
            }
        }
        busy
    }
}

/// One connection of a load.
struct Link {
    stream: TcpStream,
    /// How many were opened before it.
    number: usize,
    /// Bytes of its opening that are sent.
    opened: usize,
    /// Where in the refrain it is.
    place: usize,
    /// Has said a step of it and heard nothing since.
    waiting: bool,
}

impl Link {
    /// Begins a connection without waiting for it. Whenever it is closed, it
    /// is reset: nothing stays behind that could use up our ports.
    fn open(from: Ipv4Addr, to: SocketAddrV4, number: usize) -> rustix::io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        bind(&socket, &SocketAddrV4::new(from, 0))?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            stream: socket.into(),
            number,
            opened: 0,
            place: 0,
            waiting: false,
        })
    }

    /// Says and hears what it can; whether there was anything. An error is
    /// the end of the connection.
    fn turn(&mut self, load: &Load, input: &mut [u8]) -> io::Result<bool> {
        let sent = |link: &Self| {
            let opening = &load.openings[link.number % load.openings.len()];
            link.opened == opening.len()
        };
        if load.parting == Parting::AfterRest && sent(self) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let said = self.say(load)?;
        if load.parting == Parting::WhenSent && sent(self) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if load.deaf {
            return Ok(said);
        }
        match self.stream.read(input) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) if load.parting == Parting::WhenAnswered => {
                Err(ErrorKind::ConnectionReset.into())
            }
            heard => {
                let heard = progress(heard)?.is_some();
                self.waiting &= !heard;
                Ok(said | heard)
            }
        }
    }

    fn say(&mut self, load: &Load) -> io::Result<bool> {
        let opening = &load.openings[self.number % load.openings.len()];
        if self.opened < opening.len() {
            let taken = progress(self.stream.write(&opening[self.opened..]))?;
            self.opened += taken.unwrap_or(0);
            return Ok(taken.is_some());
        }
        let refrain = &load.refrains[self.number % load.refrains.len()];
        if refrain.is_empty() || self.waiting {
            return Ok(false);
        }
        let end = refrain.len().min(self.place + load.step);
        let taken = progress(self.stream.write(&refrain[self.place..end]))?;
        self.place = (self.place + taken.unwrap_or(0)) % refrain.len();
        self.waiting = load.patient && taken.is_some() && self.place % load.step == 0;
        Ok(taken.is_some())
    }
}

/// The bytes moved; `None` when the socket was not ready.
fn progress(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}
