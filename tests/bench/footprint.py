"""What a server takes, apart from time: memory, threads, system calls,
instructions, and how soon it answers."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from statistics import median

import client
import load
import peers
import process


def start(peer, cores, times):
    """Milliseconds from exec to the first byte of an answer."""
    took = []
    for _ in range(times):
        port = peers.free_port()
        command = [str(peer.program), *peer.arguments(port, 10_000)]
        quiet = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
        with process.on(cores.server):
            begin = time.perf_counter()
            pid = os.posix_spawn(command[0], command, peers.ENVIRONMENT, file_actions=quiet)
            try:
                first_byte(port, peer.create, begin + 30)
                took.append((time.perf_counter() - begin) * 1e3)
            finally:
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
    return median(took)


def first_byte(port, path, end):
    while time.perf_counter() < end:
        with socket.socket() as connection:
            try:
                connection.connect(("127.0.0.1", port))
            except ConnectionRefusedError:
                continue
            connection.settimeout(10)
            connection.sendall(client.request("GET", path))
            if connection.recv(1):
                return
    raise RuntimeError(f"nothing answers at port {port}")


def memory(peer, cores, steps, size):
    """KiB by number of sessions with payloads of a size, beginning with none,
    then when they have been ended; and threads."""
    by_sessions = {}
    with peers.Server(peer, cores.all, sessions=10_000) as server:
        by_sessions[0] = process.rss(server.pids)
        paths = []
        for step in steps if peer.keeps else ():
            paths += client.fill(server.port, peer.create, step - len(paths), size)
            by_sessions[step] = process.rss(server.pids)
        connection = client.Connection(server.port)
        for path in paths:
            if connection.ask("DELETE", path).status != 204:
                raise RuntimeError(f"{peer.title} does not end a session")
        connection.close()
        return by_sessions, process.rss(server.pids), process.threads(server.pids)


def endurance(peer, cores, requests, seconds):
    """MiB after so many requests of sign-ins."""
    work = load.WORKS["mix"]
    with peers.Server(peer, cores.server, sessions=10_000) as server:
        done = 0
        end = time.monotonic() + 3600
        while done < requests and time.monotonic() < end:
            done += load.wrk(server, work, cores.load, seconds=seconds).requests
        return process.rss(server.pids) / 1024


def system_calls(peer, cores, seconds):
    """System calls a request under load, by name."""
    with peers.Server(peer, cores.server) as server:
        pids = [word for pid in server.pids for word in ("-p", str(pid))]
        tracer = subprocess.Popen(
            ["strace", "-c", "-f", "-U", "calls,name", *pids],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
        with load.ended(tracer):
            traced(server.pids, tracer)
            run = load.wrk(server, load.WORKS["get"], cores.load, seconds=seconds)
            tracer.send_signal(signal.SIGINT)
            text = tracer.communicate(timeout=30)[1]
    calls = {name: int(n) for n, name in re.findall(r"^\s*(\d+) (\w+)\s*$", text, re.M)}
    calls.pop("total", None)
    if not calls:
        raise RuntimeError(f"strace saw nothing:\n{text}")
    return {name: n / run.requests for name, n in calls.items()}


def traced(pids, tracer):
    """Waits until every thread is."""
    for _ in range(500):
        tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
        if all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks):
            return
        if tracer.poll() is not None:
            raise RuntimeError(f"strace ended: {tracer.stderr.read()}")
        time.sleep(0.01)
    raise RuntimeError("strace does not attach")


def instructions(peer, work, directory, requests):
    """Instructions of a request, the kernel's not among them: what callgrind
    counts for a long run less what it counts for a short one."""
    short = requests // 10
    counts = [counted(peer, work, directory, times) for times in (short, short + requests)]
    return (counts[1] - counts[0]) / requests


def counted(peer, work, directory, times):
    out = Path(directory) / "callgrind"
    prefix = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"]
    one = ["--workers", "1"] if "json" in peer.works else []
    one = ["-g", "master_process off;"] if peer.name == "nginx" else one
    with peers.Server(peer, process.Cores(shared=True).all, more=one, prefix=prefix) as server:
        ask(server, work, times)
    found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.M)
    if not found:
        raise RuntimeError(f"callgrind did not finish for {peer.title}, {work}")
    out.unlink()
    return int(found[1])


def ask(server, work, times):
    """The same request so many times over one connection."""
    path, fields = load.target(server, load.WORKS[work])
    fields = dict(field.replace("-", "_").split(": ", 1) for field in fields)
    if work == "put":
        path, tag = server.session()
    connection = client.Connection(server.port)
    for number in range(times):
        if work == "put":
            body = b"%d" % (number % 10) + b"x" * 511
            answer = connection.ask("PUT", path, body, If_Match=tag, Content_Type="text/plain")
            tag = answer.field("ETag")
        elif work == "post":
            answer = connection.ask("POST", path, b"x" * 512, **fields)
        else:
            answer = connection.ask("GET", path, **fields)
        if answer.status not in load.WORKS[work].statuses:
            raise RuntimeError(f"{server.peer.title}: {work} was answered {answer.status}")
    connection.close()
