"""How a GET fares beside slow connections."""

import contextlib
import subprocess
import sys

import load
import peers
import process

WORK = load.WORKS["get"]


def besieged(peer, cores, count, seconds):
    """The cost of a GET without slow connections and with them."""
    with peers.Server(peer, cores.server) as server:
        def go():
            return load.wrk(server, WORK, cores.load, seconds=seconds)

        without = load.cost(server, go)
        with slow(server.port, count, cores.load):
            beside = load.cost(server, go)
    return without, beside


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
