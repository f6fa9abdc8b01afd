//! Evictions and the spread over workers, over real sockets.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use rustix::net::{AddressFamily, SocketType};

use super::*;
use crate::server::admission::CLIENT_CONNECTIONS;
use crate::server::memory::BUFFER_MEMORY;
use crate::server::settings::ACCEPT_BATCH;

/// A connection from an address of this machine.
pub(super) fn connect_from(source: Ipv4Addr, address: SocketAddr) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((source, 0))).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits long enough for times to differ and for workers to act.
fn settle() {
    thread::sleep(Duration::from_millis(20));
}

#[test]
fn a_client_with_too_many_connections_loses_its_own_and_a_proxy_none() {
    let (server, address) = start(3, 1_000, calm());
    let mut proxied: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    let mut other = connect_from([127, 1, 0, 2].into(), address);
    ask(&mut other, "other");
    settle();
    let greedy = || connect_from([127, 1, 0, 1].into(), address);
    let mut hoard: Vec<TcpStream> = (0..CLIENT_CONNECTIONS).map(|_| greedy()).collect();
    for stream in &mut hoard {
        ask(stream, "x");
        thread::sleep(Duration::from_millis(2));
    }
    // Now the second is idle for longest.
    ask(&mut hoard[0], "again");
    assert_eq!(evicted(&server, 0), 0);
    settle();
    let mut newest = greedy();
    ask(&mut newest, "new");
    assert!(closes(&mut hoard[1]));
    assert_eq!(evicted(&server, 1), 1);
    hoard.remove(1);
    let rest = hoard.iter_mut().chain(&mut proxied);
    for stream in rest.chain([&mut other, &mut newest]) {
        ask(stream, "still here");
    }
    // Places are given back.
    drop(hoard);
    settle();
    for _ in 0..CLIENT_CONNECTIONS - 1 {
        ask(&mut greedy(), "x");
    }
    ask(&mut newest, "still here");
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
    settle();
    for stream in &mut used[2..] {
        ask(stream, "still here");
    }
    drop(silent);
    server.stop();
}

#[test]
fn used_connections_do_not_take_the_place_of_a_new_one_that_is_slow() {
    let (server, address) = start(1, 10, calm());
    let mut used = Vec::new();
    let mut use_one = || {
        let mut stream = connect(address);
        ask(&mut stream, "x");
        used.push(stream);
    };
    (0..10).for_each(|_| use_one());
    let mut newest = connect(address);
    settle();
    (0..50).for_each(|_| use_one());
    ask(&mut newest, "at last");
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
        settle();
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
    let most = 200 / 4 + ACCEPT_BATCH + 1;
    assert!(held.values().all(|held| *held <= most), "{held:?}");
    server.stop();
}

#[test]
fn what_a_client_may_have_is_what_the_manual_says() {
    let manual = include_str!("../../../systemd/rendezvousd.8");
    let entry = format!("\n.TP\nconnections of one client\n{CLIENT_CONNECTIONS};");
    assert!(manual.contains(&entry));
    let mebibytes = BUFFER_MEMORY >> 20;
    let entry = format!("\n.TP\nbuffers of all connections\n{mebibytes} MiB,");
    assert!(manual.contains(&entry));
}

#[test]
fn buffers_are_bounded_and_the_largest_go_first() {
    let settings = Settings {
        workers: 1,
        max_connections: 1_000,
        trusted_proxies: proxies(),
        largest_body: 4096,
        // However slow the machine, what is held is not late.
        deadlines: Deadlines {
            request: 10 * PATIENCE,
            ..calm()
        },
    };
    let (server, address) = start_with(&settings);
    let mut bystander = connect(address);
    let request = post("patience");
    bystander.write_all(&request.as_bytes()[..20]).unwrap();
    settle();
    let head = "POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    let part = [head.as_bytes(), &[b'x'; 900_000]].concat();
    let mut hoard = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(address);
        // Those that are closed meanwhile fail.
        let _ = stream.write_all(&part);
        hoard.push(stream);
    }
    bystander.write_all(&request.as_bytes()[20..]).unwrap();
    assert_eq!(answer(&mut bystander).1, "patience");
    let kept = || 100 - usize::try_from(evicted(&server, 0)).unwrap();
    // What was written may still be on its way through the sockets.
    let patience = Instant::now() + 10 * PATIENCE;
    while kept() > BUFFER_MEMORY / 900_000 {
        assert!(Instant::now() < patience, "{} are held", kept());
        settle();
    }
    assert!(kept() >= 16, "only {} are held", kept());
    server.stop();
}
