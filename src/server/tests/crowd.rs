//! Who has to go when there are too many.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use rustix::net::{AddressFamily, SocketType};

use super::*;
use crate::server::crowd::CLIENT_CONNECTIONS;

/// A connection from an address of this machine.
pub(super) fn connect_from(source: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((source, 0))).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Long enough for times to differ and for workers to tell each other.
fn moment() {
    thread::sleep(Duration::from_millis(20));
}

#[test]
fn a_client_with_too_many_connections_loses_its_own_and_a_proxy_none() {
    let (server, address) = start(3, 1_000, calm());
    let mut proxied: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    let mut other = connect_from([127, 1, 0, 2].into(), address);
    ask(&mut other, "other");
    moment();
    let greedy = || connect_from([127, 1, 0, 1].into(), address);
    let mut hoard: Vec<TcpStream> = (0..CLIENT_CONNECTIONS).map(|_| greedy()).collect();
    for stream in &mut hoard {
        ask(stream, "x");
        thread::sleep(Duration::from_millis(2));
    }
    // Now the second is idle for longest.
    ask(&mut hoard[0], "again");
    assert_eq!(evicted(&server, 0), 0);
    moment();
    let mut newcomer = greedy();
    ask(&mut newcomer, "new");
    assert!(closes(&mut hoard[1]));
    assert_eq!(evicted(&server, 1), 1);
    hoard.remove(1);
    let rest = hoard.iter_mut().chain(&mut proxied);
    for stream in rest.chain([&mut other, &mut newcomer]) {
        ask(stream, "still here");
    }
    // Places are given back.
    drop(hoard);
    moment();
    for _ in 0..CLIENT_CONNECTIONS - 1 {
        ask(&mut greedy(), "x");
    }
    ask(&mut newcomer, "still here");
    assert_eq!(evicted(&server, 1), 1);
    server.stop();
}

#[test]
fn new_connections_do_not_take_the_places_of_all_used_ones() {
    let (server, address) = start(1, 10, calm());
    let mut used: Vec<TcpStream> = (0..6).map(|_| connect(address)).collect();
    for stream in &mut used {
        ask(stream, "x");
    }
    let silent: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
    moment();
    for stream in &mut used[2..] {
        ask(stream, "still here");
    }
    drop(silent);
    server.stop();
}

#[test]
fn used_connections_do_not_take_the_place_of_a_newcomer_who_is_slow() {
    let (server, address) = start(1, 10, calm());
    let mut used = Vec::new();
    let mut use_one = || {
        let mut stream = connect(address);
        ask(&mut stream, "x");
        used.push(stream);
    };
    (0..10).for_each(|_| use_one());
    let mut newcomer = connect(address);
    moment();
    (0..50).for_each(|_| use_one());
    ask(&mut newcomer, "at last");
    assert_eq!(evicted(&server, 51), 51);
    server.stop();
}

#[test]
fn the_longest_idle_of_all_workers_makes_room() {
    let (server, address) = start(4, 12, calm());
    let mut streams: Vec<TcpStream> = Vec::new();
    for number in 0..16 {
        let mut stream = connect(address);
        ask(&mut stream, "in");
        streams.push(stream);
        moment();
        if number >= 12 {
            assert!(closes(&mut streams[number - 12]), "{number}");
        }
    }
    assert_eq!(evicted(&server, 4), 4);
    for stream in &mut streams[4..] {
        ask(stream, "still here");
    }
    server.stop();
}

#[test]
fn no_worker_holds_all_connections() {
    let (server, address) = start(4, 1_000, calm());
    let mut held: HashMap<String, usize> = HashMap::new();
    let mut streams: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
    for stream in &mut streams {
        stream.write_all(get("/thread").as_bytes()).unwrap();
        *held.entry(answer(stream).1).or_default() += 1;
    }
    assert!(held.values().all(|held| *held < 150), "{held:?}");
    server.stop();
}

#[test]
fn a_connection_takes_what_is_said_of_it() {
    // In its list: two links, a key, an allocation's header, a table that may
    // be less than half full. Among its client's: a seat, a list with room
    // for four, an entry in a table.
    let (links, table) = (16 + 8 + 8, 3 * 17);
    let (seat, list, entry) = (64, 48, 3 * 41);
    let size = pool::Pool::MEMBER_SIZE + links + table + seat + list + entry;
    assert!(size <= CONNECTION_SIZE, "{size}");
}

#[test]
fn what_a_client_may_have_is_what_the_readme_says() {
    let readme = include_str!("../../../README.md");
    let row = format!("| connections of one client | {CLIENT_CONNECTIONS};");
    assert!(readme.contains(&row));
    let row = format!("| buffers of all connections | {} MiB,", BUFFERS >> 20);
    assert!(readme.contains(&row));
}

#[test]
fn buffers_are_bounded_and_the_largest_go_first() {
    let settings = Settings {
        workers: 1,
        max_connections: 1_000,
        trusted_proxies: proxies(),
        largest_body: 4096,
        deadlines: calm(),
    };
    let (server, address) = start_with(&settings);
    let mut innocent = connect(address);
    let request = post("patience");
    innocent.write_all(&request.as_bytes()[..20]).unwrap();
    moment();
    let head = "POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    let part = [head.as_bytes(), &[b'x'; 900_000]].concat();
    let mut hoard = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(address);
        // Those that are closed meanwhile fail.
        let _ = stream.write_all(&part);
        hoard.push(stream);
    }
    innocent.write_all(&request.as_bytes()[20..]).unwrap();
    assert_eq!(answer(&mut innocent).1, "patience");
    let kept = || 100 - usize::try_from(evicted(&server, 0)).unwrap();
    // What was written may still be on its way through the sockets.
    let patience = Instant::now() + PATIENCE;
    while kept() > BUFFERS / 900_000 {
        assert!(Instant::now() < patience, "{} are held", kept());
        moment();
    }
    assert!(kept() >= 16, "only {} are held", kept());
    server.stop();
}
