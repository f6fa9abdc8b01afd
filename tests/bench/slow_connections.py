"""How a GET fares beside slow connections."""

import contextlib
import socket
import subprocess
import sys

import load
import peers
import process

WORK = load.WORKS["get"]


def costs(peer, cores, count, seconds, turn):
    """The cost of a GET alone, beside slow connections that nobody serves, and
    beside the server's own, in an order that turns. Whoever drips the bytes
    takes time from wrk, which delays answers however they are served: what the
    last has more than the second is the server's doing."""
    costs = {}
    with peers.Server(peer, cores.server) as server, unserved(count) as nobody:
        places = [("alone", None), ("nobody", nobody), ("own", server.port)]
        for place, port in places[turn % 3 :] + places[: turn % 3]:
            with slow(port, count, cores.load) if port else contextlib.nullcontext():
                costs[place] = load.cost(
                    server, lambda: load.wrk(server, WORK, cores.load, seconds=seconds))  # fmt: skip
    return costs


@contextlib.contextmanager
def unserved(count):
    """A port at which the kernel takes connections and nobody ever does."""
    with socket.create_server(("127.0.0.1", 0), backlog=count + 1) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def slow(port, count, cores):
    with process.on(cores):
        holder = subprocess.Popen(
            [sys.executable, str(load.HERE / "slow.py"), str(port), str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        if holder.stdout.readline() != "ready\n":
            raise RuntimeError(f"{count} slow connections could not be made")
        yield
        closed = int(holder.communicate("", timeout=30)[0])
        if closed > count / 10:
            raise RuntimeError(f"{closed} of {count} slow connections were not held")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
