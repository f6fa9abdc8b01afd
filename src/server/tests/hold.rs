//! Requests that are held.

use std::io::ErrorKind;
use std::sync::Mutex;
use std::task::Waker;

use super::*;
use crate::http::{HeldRequest, ReleaseReason};
use crate::metrics::{Counters, Phase};

/// Holds requests for `/hold` until there is news, and those for `/brief` no
/// longer than [`BRIEF`].
#[derive(Debug, Default)]
struct Mailbox {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    news: Option<String>,
    wakers: Vec<Waker>,
    /// Requests that were held and are gone again.
    dropped: usize,
}

/// How long `/brief` is held.
const BRIEF: Duration = Duration::from_millis(300);

impl Mailbox {
    /// Wakes all that are held; with `news` they can be answered.
    fn wake(&self, news: Option<&str>) {
        let mut state = self.state.lock().unwrap();
        state.news = news.map(str::to_owned);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn dropped(&self) -> usize {
        self.state.lock().unwrap().dropped
    }
}

impl Handler for Mailbox {
    fn respond(&self, request: &Request<'_, '_>, _: Peer, waker: WakerSource<'_>) -> Answer {
        let path = request.head.path;
        let wait = match path {
            "/hold" | "/panic" => 10 * PATIENCE,
            "/brief" => BRIEF,
            _ => return text(path).into(),
        };
        let Some(waker) = waker() else {
            return text("at once").into();
        };
        let mut state = self.state.lock().unwrap();
        state.wakers.push(waker);
        let held = Held {
            state: Arc::clone(&self.state),
            panics: path == "/panic",
        };
        Answer::Hold {
            request: Box::new(held),
            at_most: wait,
        }
    }

    fn reject(&self, rejection: Rejection) -> Response {
        Response::new(rejection.status.0, "")
    }
}

#[derive(Debug)]
struct Held {
    state: Arc<Mutex<State>>,
    panics: bool,
}

impl HeldRequest for Held {
    fn try_respond(&mut self) -> Option<Response> {
        let news = self.state.lock().unwrap().news.clone();
        assert!(news.is_none() || !self.panics, "as told");
        news.as_deref().map(text)
    }

    fn release(self: Box<Self>, reason: ReleaseReason) -> Response {
        text(&format!("{reason:?}"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.state.lock().unwrap().dropped += 1;
    }
}

fn text(text: &str) -> Response {
    Response::new(200, "").with(Body::Text(text.into()))
}

struct Fixture {
    server: Server,
    address: SocketAddr,
    mailbox: Arc<Mailbox>,
}

impl Fixture {
    fn start(workers: usize, max_connections: usize) -> Self {
        let mailbox = Arc::<Mailbox>::default();
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let Address::Tcp(address) = *listener.address() else {
            panic!("no TCP");
        };
        let settings = Settings {
            workers,
            max_connections,
            trusted_proxies: proxies(),
            largest_body: 0,
            deadlines: calm(),
        };
        let server =
            Server::start(vec![listener], &settings, mailbox.clone(), Arc::default()).unwrap();
        Self {
            server,
            address,
            mailbox,
        }
    }

    fn held(&self) -> u64 {
        let connections = &self.server.counters().connections;
        connections.in_phase(Phase::Held)
    }

    /// Waits until so many requests are held.
    #[track_caller]
    fn wait_held(&self, count: u64) {
        let patience = Instant::now() + PATIENCE;
        while self.held() != count {
            assert!(Instant::now() < patience, "{} are held", self.held());
            thread::yield_now();
        }
    }

    /// A connection with a held request.
    fn hold(&self, path: &str) -> TcpStream {
        let before = self.held();
        let mut stream = connect(self.address);
        stream.write_all(get(path).as_bytes()).unwrap();
        self.wait_held(before + 1);
        stream
    }
}

#[test]
fn a_held_request_is_answered_once_there_is_news() {
    let fixture = Fixture::start(2, 64);
    let mut streams: Vec<_> = (0..8).map(|_| fixture.hold("/hold")).collect();
    // A wake-up without news changes nothing.
    fixture.mailbox.wake(None);
    ask_for(&mut connect(fixture.address), "/other");
    assert_eq!((fixture.held(), fixture.mailbox.dropped()), (8, 0));
    let mut late = fixture.hold("/hold");
    // The first eight are not woken any more.
    fixture.mailbox.wake(Some("news"));
    assert_eq!(answer(&mut late).1, "news");
    for stream in &mut streams {
        stream.write_all(get("/behind").as_bytes()).unwrap();
        // An event has them looked at again.
        assert_eq!(answer(stream).1, "news");
        assert_eq!(answer(stream).1, "/behind");
    }
    fixture.wait_held(0);
    assert_eq!(fixture.mailbox.dropped(), 9);
    fixture.server.stop();
}

/// Sends a request for a path and gets the path back.
#[track_caller]
fn ask_for(stream: &mut TcpStream, path: &str) {
    stream.write_all(get(path).as_bytes()).unwrap();
    assert_eq!(answer(stream).1, path);
}

#[test]
fn requests_behind_a_held_one_wait_in_order() {
    let fixture = Fixture::start(1, 16);
    let mut stream = connect(fixture.address);
    let paths = ["/hold", "/after", "/end"];
    let requests: String = paths.map(get).concat();
    stream.write_all(requests.as_bytes()).unwrap();
    fixture.wait_held(1);
    fixture.mailbox.wake(Some("news"));
    for expected in ["news", "/after", "/end"] {
        assert_eq!(answer(&mut stream).1, expected);
    }
    fixture.server.stop();
}

/// It would wait for the peer to take what is before it, and neither be held
/// nor let go meanwhile.
#[test]
fn a_request_behind_other_responses_is_answered_at_once() {
    let fixture = Fixture::start(1, 16);
    let mut stream = connect(fixture.address);
    let requests = [get("/before"), get("/hold")].concat();
    stream.write_all(requests.as_bytes()).unwrap();
    for expected in ["/before", "at once"] {
        assert_eq!(answer(&mut stream).1, expected);
    }
    let head = get("/hold").replace("GET", "HEAD");
    stream.write_all(head.as_bytes()).unwrap();
    let mut line = [0; 15];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 200 OK");
    assert_eq!(fixture.held(), 0);
    fixture.server.stop();
}

#[test]
fn a_hold_ends_with_its_time() {
    let fixture = Fixture::start(1, 16);
    let mut stream = connect(fixture.address);
    for _ in 0..2 {
        stream.write_all(get("/brief").as_bytes()).unwrap();
        let started = Instant::now();
        assert_eq!(answer(&mut stream).1, "Timeout");
        // The wake-up that brought the request may be a little older.
        assert!(started.elapsed() >= BRIEF / 2);
    }
    fixture.server.stop();
}

#[test]
fn http_1_0_and_connection_close_are_honoured() {
    let fixture = Fixture::start(1, 16);
    for request in [
        "GET /brief HTTP/1.0\r\n\r\n",
        "GET /brief HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ] {
        let mut stream = connect(fixture.address);
        stream.write_all(request.as_bytes()).unwrap();
        let (head, body) = answer(&mut stream);
        assert_eq!(body, "Timeout");
        assert!(head.contains("Connection: close"), "{head}");
        assert!(closes(&mut stream));
    }
    fixture.server.stop();
}

#[test]
fn a_peer_that_is_gone_is_let_go() {
    let fixture = Fixture::start(2, 64);
    // Half-closed: it may still want the answer.
    let mut stream = fixture.hold("/hold");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&mut stream).1, "Gone");
    assert!(closes(&mut stream));
    // Requests that wait behind do not hide it.
    let mut stream = fixture.hold("/hold");
    stream
        .write_all(get("/after").repeat(2_000).as_bytes())
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(answer(&mut stream).1, "Gone");
    assert_eq!(answer(&mut stream).1, "/after");
    drop(stream);
    // Closed, and reset: unread input makes the kernel do that.
    drop(fixture.hold("/hold"));
    let mut stream = connect(fixture.address);
    ask_for(&mut stream, "/before");
    stream.write_all(get("/hold").as_bytes()).unwrap();
    fixture.wait_held(1);
    stream.write_all(get("/after").as_bytes()).unwrap();
    drop(stream);
    fixture.wait_held(0);
    fixture.server.stop();
}

#[test]
fn an_end_that_comes_with_the_request_is_seen() {
    let fixture = Fixture::start(1, 16);
    let mut stream = connect(fixture.address);
    while_stopped(&fixture, || {
        stream.write_all(get("/hold").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(answer(&mut stream).1, "at once");
    fixture.server.stop();
}

/// Keeps the only worker from reading while `work` runs: the lock that its
/// handler needs is held.
fn while_stopped(fixture: &Fixture, work: impl FnOnce()) {
    let state = fixture.mailbox.state.lock().unwrap();
    let mut blocker = connect(fixture.address);
    blocker.write_all(get("/hold").as_bytes()).unwrap();
    thread::sleep(BRIEF);
    work();
    drop(state);
    fixture.wait_held(1);
    fixture.mailbox.wake(Some("news"));
    assert_eq!(answer(&mut blocker).1, "news");
}

#[test]
fn half_of_the_connections_may_be_held() {
    let fixture = Fixture::start(2, 8);
    let streams: Vec<_> = (0..4).map(|_| fixture.hold("/hold")).collect();
    let mut fifth = connect(fixture.address);
    fifth.write_all(get("/hold").as_bytes()).unwrap();
    assert_eq!(answer(&mut fifth).1, "at once");
    drop(streams);
    fixture.wait_held(0);
    fifth.write_all(get("/brief").as_bytes()).unwrap();
    assert_eq!(answer(&mut fifth).1, "Timeout");
    fixture.server.stop();
}

#[test]
fn at_the_ceiling_held_requests_are_answered_and_not_cut() {
    let fixture = Fixture::start(2, 6);
    let mut held: Vec<_> = (0..3).map(|_| fixture.hold("/hold")).collect();
    let mut others: Vec<_> = (0..3).map(|_| connect(fixture.address)).collect();
    others.iter_mut().for_each(|other| ask_for(other, "/other"));
    // They have been idle for longest.
    for held in &mut held {
        let mut newer = connect(fixture.address);
        newer.write_all(get("/hold").as_bytes()).unwrap();
        assert_eq!(answer(&mut newer).1, "at once");
        let (head, body) = answer(held);
        assert_eq!(body, "Closing");
        assert!(head.contains("Connection: close"), "{head}");
        assert!(closes(held));
        others.push(newer);
    }
    fixture.server.stop();
}

#[test]
fn a_stop_answers_what_is_held_at_once() {
    let fixture = Fixture::start(2, 64);
    let mut streams: Vec<_> = (0..8).map(|_| fixture.hold("/hold")).collect();
    let mailbox = Arc::clone(&fixture.mailbox);
    fixture.server.stop();
    for stream in &mut streams {
        let (head, body) = answer(stream);
        assert_eq!(body, "Closing");
        assert!(head.contains("Connection: close"), "{head}");
        assert!(closes(stream));
    }
    assert_eq!(mailbox.dropped(), 8);
    // Nobody is there to be woken.
    mailbox.wake(Some("news"));
}

#[test]
fn a_panic_while_held_is_answered_500_and_the_connection_stays_in_step() {
    let fixture = Fixture::start(1, 16);
    let mut stream = fixture.hold("/panic");
    fixture.mailbox.wake(Some("news"));
    assert!(answer(&mut stream).0.starts_with("HTTP/1.1 500 "));
    ask_for(&mut stream, "/after");
    assert_eq!(fixture.server.counters().panics.get(), 1);
    fixture.server.stop();
}

#[test]
fn wake_ups_for_one_request_do_not_end_the_next() {
    let fixture = Fixture::start(1, 16);
    let mut stream = fixture.hold("/brief");
    let stale = fixture.mailbox.state.lock().unwrap().wakers[0].clone();
    assert_eq!(answer(&mut stream).1, "Timeout");
    stream.write_all(get("/hold").as_bytes()).unwrap();
    fixture.wait_held(1);
    stale.wake();
    ask_for(&mut connect(fixture.address), "/other");
    assert_eq!(fixture.held(), 1);
    fixture.mailbox.wake(Some("news"));
    assert_eq!(answer(&mut stream).1, "news");
    fixture.server.stop();
}

/// A stream that brings one request, and counts the held ones as it sends.
struct Observer {
    request: Option<String>,
    counters: Arc<Counters>,
    held: Vec<u64>,
}

impl Read for Observer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let request = self.request.take().ok_or(ErrorKind::WouldBlock)?;
        request.as_bytes().read(into)
    }
}

impl Write for Observer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held
            .push(self.counters.connections.in_phase(Phase::Held));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Observer {
    fn finish(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A client that has its response may look at the count, or be refused another
/// hold because of it.
#[test]
fn a_request_is_not_counted_as_held_once_its_response_is_sent() {
    type Release = fn(&Mailbox, &mut Connection<Observer>, &mut Context);
    let releases: [Release; 3] = [
        |mailbox, connection, context| {
            mailbox.wake(Some("news"));
            connection.drive(context);
        },
        |_, connection, context| {
            context.stopping_since = Some(context.now);
            connection.drive(context);
        },
        |_, connection, context| connection.release(context),
    ];
    for release in releases {
        let (mailbox, counters) = (Arc::<Mailbox>::default(), Arc::<Counters>::default());
        let mut context = Context::new(mailbox.clone(), Arc::clone(&counters), calm());
        let stream = Observer {
            request: Some(get("/hold")),
            counters: Arc::clone(&counters),
            held: Vec::new(),
        };
        let mut connection = Connection::new(stream, Peer::Local, &context);
        connection.mark_readable();
        while connection.drive(&mut context) == Next::Reschedule {}
        assert_eq!(counters.connections.in_phase(Phase::Held), 1);
        release(&mailbox, &mut connection, &mut context);
        assert_eq!(connection.stream().held, [0]);
    }
}
