"""How a GET fares beside slow connections."""

import contextlib
import subprocess
import sys

import load
import peers
import process

WORK = load.WORKS["get"]


def besieged(peer, cores, count, seconds):
    """The cost of a GET alone, beside slow connections that another instance
    holds, and beside its own. Whoever drips the bytes takes time from wrk,
    which delays answers however they are served: only what the last has more
    than the second is the server's doing."""
    with peers.Server(peer, cores.server) as server, peers.Server(peer, cores.server) as other:
        def go():
            return load.cost(server, lambda: load.wrk(server, WORK, cores.load, seconds=seconds))

        alone = go()
        with slow(other.port, count, cores.load):
            elsewhere = go()
        with slow(server.port, count, cores.load):
            return alone, elsewhere, go()


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
        if holder.poll() is not None:
            raise RuntimeError("the slow connections are gone")
    finally:
        holder.stdin.close()
        holder.terminate()
        holder.wait()
        holder.stdout.close()
