"""Load: what is asked, by how many, and what it costs the server."""

import contextlib
import math
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import client
import peers
import process

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Work:
    name: str
    title: str
    script: str
    arguments: tuple
    # The statuses of good answers, the commonest first.
    statuses: tuple
    # A thread of wrk for each connection.
    threaded: bool = False


MEETING = (1, 8, 90, 1)  # POSTs, PUTs, polls, DELETEs of one sign-in

WORKS = {
    work.name: work
    for work in [
        Work("get", "GET, 200 with 512 bytes", "request.lua", ("GET", "0"), (200,)),
        Work("poll", "poll, 304", "request.lua", ("GET", "0"), (304,)),
        Work("post", "POST of 512 bytes, 201", "request.lua", ("POST", "512"), (201,)),
        Work("put", "PUT of 512 bytes with If-Match, 202", "meeting.lua", ("1000", "0"),
             (202, 201, 204), True),
        Work("mix", "sign-ins: 1 POST, 8 PUTs, 90 polls, 1 DELETE", "meeting.lua", ("8", "90"),
             (304, 200, 202, 201, 204), True),
        Work("json", "MSC4388's poll, 200 with JSON of 512 bytes", "request.lua", ("GET", "0"),
             (200,)),
        Work("turnover", "POST and DELETE in turns", "meeting.lua", ("0", "0"), (201, 204), True),
    ]
}  # fmt: skip


@dataclass
class Run:
    """What one run of wrk saw."""

    requests: int
    seconds: float
    p50: float  # ms
    p99: float
    busy: float  # share of one core that wrk took

    @property
    def rate(self):
        return self.requests / self.seconds


def target(server, work):
    """The URL and the header fields of a work."""
    if work.name == "json":
        connection = client.Connection(server.port)
        body = b'{"data":"%s"}' % (b"x" * 512)
        answer = connection.ask("POST", peers.MSC4388, body, Content_Type="application/json")
        connection.close()
        name = answer.body.decode().split('"id":"')[1].split('"')[0]
        return f"{peers.MSC4388}/{name}", []
    if work.name == "get":
        return server.session()[0], []
    if work.name == "poll":
        path, tag = server.session()
        return path + server.peer.unchanged, [f"If-None-Match: {tag}"]
    return server.peer.create, ["Content-Type: text/plain"] if work.name == "post" else []


def wrk(server, work, cores, connections=64, seconds=1.0, close=False, check=False):
    """Lets wrk ask for a time; fails if an answer was not as it should be."""
    path, fields = target(server, work)
    if close:
        fields = [*fields, "Connection: close"]
    arguments = [*work.arguments, *(["check"] if check else [])]
    return drive(server.url(path), work, fields, arguments, cores, connections, seconds)


def drive(url, work, fields, arguments, cores, connections, seconds):
    command = ["stdbuf", "-oL", "wrk", f"-t{connections if work.threaded else 1}", f"-c{connections}",
               f"-d{math.ceil(seconds) + 5}s", "--timeout", "10s", "-s", str(HERE / work.script)]
    for one in fields:
        command += ["-H", one]
    command += [url, "--", *arguments]
    environment = {**os.environ, "LUA_PATH": f"{HERE}/?.lua;;"}
    with process.on(cores):
        load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    with ended(load):
        # wrk itself knows whole seconds only. Its threads run once it has said
        # how many they are.
        text = load.stdout.readline() + load.stdout.readline()
        time.sleep(seconds)
        load.send_signal(signal.SIGINT)
        text += load.stdout.read()
        _, _, usage = os.wait4(load.pid, 0)
        load.returncode = 0
    found = [line for line in text.splitlines() if line.startswith("figures ")]
    if not found:
        raise RuntimeError(f"wrk failed: {' '.join(command)}\n{text}")
    words = dict(word.split("=") for word in found[0].split()[1:])
    words = {key: int(value) for key, value in words.items()}
    # On a busy machine a moment may be too short for a first answer.
    if not words["requests"] and seconds < 5:
        return drive(url, work, fields, arguments, cores, connections, seconds * 5)
    # The predecessor closes without a word when it is asked to, which wrk
    # notices by reading once more.
    if "Connection: close" not in fields:
        words["broken"] += words["closed"]
    return judged(work, command, text, words, usage)


@contextlib.contextmanager
def ended(child):
    """A process that does not outlive an interruption."""
    try:
        yield
    except BaseException:
        child.kill()
        child.wait()
        raise


def judged(work, command, text, words, usage):
    statuses = {int(k[6:]): v for k, v in words.items() if k.startswith("status")}
    wrong = {status: n for status, n in statuses.items() if status not in work.statuses}
    rare = statuses and max(statuses, key=statuses.get) not in work.statuses[:2]
    if words["refused"] or words["broken"] or wrong or rare or not words["requests"]:
        raise RuntimeError(f"{' '.join(command)}\n{text}\nstatuses: {statuses}")
    seconds = words["microseconds"] / 1e6
    busy = (usage.ru_utime + usage.ru_stime) / seconds
    return Run(words["requests"], seconds, words["p50"] / 1e3, words["p99"] / 1e3, busy)


def cost(server, go):
    """Lets `go` run and says what it cost the server: CPU time a request in
    microseconds, the share of it in its own code, and the rest."""
    pids = server.pids
    ticks, before = process.ticks(pids), process.cpu(pids)
    run = go()
    spent = (process.cpu(pids) - before) * 1e6 / run.requests
    own, kernel = (after - first for after, first in zip(process.ticks(pids), ticks))
    share = own / (own + kernel) if own + kernel else 0
    return {
        "cpu": spent, "own": share,
        "rate": run.rate, "p50": run.p50, "p99": run.p99, "wrk": run.busy,
    }  # fmt: skip
