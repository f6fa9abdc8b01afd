"""The servers that are measured: how to get, start and stop them."""

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import client
import process

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PREDECESSOR = "matrix-http-rendezvous-server"
VERSION = "0.1.12"
MSC4108 = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"
MSC4388 = "/_matrix/client/unstable/io.element.msc4388/rendezvous"

# One heap, as the service units have it: glibc keeps one a thread otherwise.
ENVIRONMENT = {**os.environ, "RUST_LOG": "off", "MALLOC_ARENA_MAX": "1"}

TAGGED = {"get", "poll", "post", "put", "mix"}


@dataclass
class Peer:
    name: str
    title: str
    program: Path
    # Of the port, the most sessions and other arguments.
    arguments: object
    works: set
    create: str = "/rendezvous"
    # Where polls go, below a session, if not to the session itself.
    unchanged: str = ""
    keeps: bool = True  # sessions
    # What to get, where nothing can be created.
    path: str = ""


class Server:
    """A running peer."""

    def __init__(self, peer, cores, sessions=100_000, more=(), prefix=()):
        self.peer = peer
        self.port = free_port()
        command = [*prefix, str(peer.program), *peer.arguments(self.port, sessions), *more]
        with process.on(cores):
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
            )

    def __enter__(self):
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def wait(self):
        """Until it answers."""
        end = time.monotonic() + 60
        while True:
            try:
                connection = client.Connection(self.port)
                connection.ask("GET", self.peer.create)
                return connection.close()
            except (OSError, ValueError):
                if self.process.poll() is not None:
                    raise RuntimeError(f"{self.peer.title} ended at its start") from None
                if time.monotonic() > end:
                    raise RuntimeError(f"{self.peer.title} does not answer") from None
                time.sleep(0.005)

    def stop(self):
        # Told once, nginx without a master may yet wait for an event first.
        for _ in range(12):
            self.process.terminate()
            try:
                self.process.wait(5)
                return
            except subprocess.TimeoutExpired:
                pass
        print(f"{self.peer.title} does not end when told to")
        self.process.kill()
        self.process.wait()

    @property
    def pids(self):
        return process.family(self.process.pid)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def session(self, size=512):
        """A new session: its path and the tag it has."""
        if self.peer.path:
            return self.peer.path, ""
        connection = client.Connection(self.port)
        create = self.peer.create
        answer = connection.ask("POST", create, b"x" * size, Content_Type="text/plain")
        connection.close()
        if answer.status != 201:
            raise RuntimeError(f"{self.peer.title} answers a POST with {answer.status}")
        return client.place(create, answer), answer.field("ETag")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def run(*command, **more):
    """Runs a command that prints only when it fails."""
    outcome = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )
    if outcome.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{outcome.stdout}")
    return outcome.stdout


def install(tools):
    """Debian's packages of these tools; nginx's own service is not started."""
    missing = [package for tool, package in tools.items() if not shutil.which(tool)]
    if not missing:
        return
    print(f"installing {' '.join(missing)}", flush=True)
    run("bash", "-c", '. tests/proxies/lib.sh && without_services --install-recommends "$@"',
        "install", *missing, cwd=ROOT)  # fmt: skip


def ours(name="ours", title="rendezvousd", program=None, long_poll="0s"):
    """rendezvousd, which answers polls at once as the others do, unless told otherwise."""

    def arguments(port, sessions):
        address = f"127.0.0.1:{port}"
        return ["--listen", address, "--ttl", "1h", "--max-entries", str(sessions),
                "--log-level", "off", "--long-poll", long_poll]  # fmt: skip

    program = program or TARGET / "release/rendezvousd"
    return Peer(name, title, program, arguments, TAGGED | {"json"})


def predecessor():
    def arguments(port, sessions):
        return ["-p", str(port), "--ttl", "3600s", "--prefix", "/rendezvous", "-c", str(sessions)]

    program = TARGET / "peers/bin" / PREDECESSOR
    if not program.exists():
        print(f"installing {PREDECESSOR} {VERSION}, which takes minutes", flush=True)
        run("cargo", "install", "--quiet", "--root", str(TARGET / "peers"),
            PREDECESSOR, "--version", VERSION)  # fmt: skip
    return Peer("predecessor", f"predecessor {VERSION}", program, arguments, TAGGED)


def stock():
    def arguments(port, sessions):
        return [f"127.0.0.1:{port}", str(sessions)]

    program = TARGET / "release/examples/stock-tiny-http"
    return Peer("stock", "stock tiny_http, our store", program, arguments, TAGGED)


def floor():
    def arguments(port, _):
        return [f"127.0.0.1:{port}"]

    program = TARGET / "release/examples/floor"
    return Peer("floor", "floor: one read, one write", program, arguments, {"get"},
                keeps=False, path="/")  # fmt: skip


def everybody(musl=None):
    """All peers, ours first."""
    install({"wrk": "wrk", "nginx": "nginx-light", "strace": "strace", "valgrind": "valgrind"})
    run("cargo", "build", "--quiet", "--locked", "--release", "--bins",
        "--example", "stock-tiny-http", "--example", "floor", cwd=ROOT)  # fmt: skip
    peers = [ours()]
    static = Path(musl or TARGET / "cross/x86_64-unknown-linux-musl/release/rendezvousd")
    if static.exists():
        peers.append(ours("musl", "rendezvousd, static (musl)", static))
    elif musl:
        raise SystemExit(f"--musl {musl}: there is no such file")
    return peers + [predecessor(), stock(), floor()]
