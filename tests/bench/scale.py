"""What a request costs with few sessions and with many, with few workers and
with more, and how long the store's lock is held."""

import contextlib
from pathlib import Path

import client
import load
import peers
import process

ANYWHERE = load.Work("anywhere", "GET of any session", "anywhere.lua", (), (200,))
TURNOVER = load.WORKS["turnover"]


def by_sessions(cores, numbers, rounds, seconds, directory):
    """Microseconds of CPU, of a GET of any session and of the mean of a POST
    and a DELETE, by number of sessions held; and MiB. In turns."""
    figures = {number: {"get": [], "turnover": [], "rss": []} for number in numbers}
    with contextlib.ExitStack() as stack:
        held = []
        for number in numbers:
            server = peers.Server(peers.ours(), cores.server, sessions=number + 10_000)
            stack.enter_context(server)
            file = Path(directory) / f"paths-{number}"
            paths = client.fill(
                server.port, server.peer.create, number, 512, "application/json", batch=50)  # fmt: skip
            file.write_text("\n".join(paths) + "\n")
            figures[number]["rss"].append(process.rss(server.pids) / 1024)
            held.append((number, server, file))
        for _ in range(rounds):
            for number, server, file in held:
                for work, arguments in ((ANYWHERE, [str(file)]), (TURNOVER, TURNOVER.arguments)):
                    cost = one(server, work, arguments, cores, seconds)
                    figures[number]["get" if work is ANYWHERE else "turnover"].append(cost["cpu"])
    return figures


def one(server, work, arguments, cores, seconds):
    url = server.url(server.peer.create)
    return load.cost(
        server, lambda: load.drive(url, work, [], arguments, cores.load, 64, seconds))  # fmt: skip


def by_workers(numbers, rounds, seconds):
    """CPU a GET and requests a second by number of workers, which share all
    cores with the load."""
    cores = process.Cores(shared=True)
    figures = {number: [] for number in numbers}
    for _ in range(rounds):
        for number in numbers:
            more = ["--workers", str(number)]
            with peers.Server(peers.ours(), cores.server, more=more) as server:
                work = load.WORKS["get"]
                figures[number].append(
                    load.cost(server, lambda: load.wrk(server, work, cores.load, seconds=seconds)))  # fmt: skip
    return figures


def store(sessions):
    """What the store's own benchmark prints."""
    arguments = [str(number) for number in sessions]
    return peers.run(
        "cargo", "bench", "--quiet", "--locked", "--bench", "store", "--", *arguments,
        cwd=peers.ROOT)  # fmt: skip
