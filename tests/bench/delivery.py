"""How long a message takes from the PUT that writes it to the answer that the
other device polls for, and what a sign-in costs the server. Devices poll as both
SDKs do: at once again after a message, a second later after a 304."""

import asyncio
import io
import random
import time
from dataclasses import dataclass, field
from statistics import median, quantiles

import client
import peers
import process

# Of the messages of a sign-in by MSC4108, in bytes. The device that scans begins.
MESSAGES = [104, 52, 168, 388, 70, 56, 515]
BETWEEN_POLLS = 1.0  # seconds, after a 304
TEXT = {"Content_Type": "text/plain"}

# How many sign-ins at once, how often in turn, and how many seconds a device takes
# at most before it writes. Where polls are not held, 20 at once keep no server busy
# and need not be waited for one by one.
ALONE, SOME, MANY = (1, 20, 0.1), (20, 1, 0.1), (500, 1, 2)
FEWER = {ALONE: (1, 3, 0.1), MANY: (100, 1, 0.5)}
POINTS = [
    ("holding", ALONE), ("floor", ALONE), ("holding", MANY), ("floor", MANY),
    ("ours", SOME), ("ours", MANY), ("predecessor", SOME), ("synapse", SOME),
]  # fmt: skip


@dataclass
class Seen:
    """What the devices saw."""

    delays: list = field(default_factory=list)  # seconds
    requests: int = 0


class Device(asyncio.Protocol):
    """A kept connection, which notes when an answer was there."""

    @classmethod
    async def at(cls, port, seen):
        _, device = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        device.seen = seen
        return device

    def __init__(self):
        self.received, self.answered = b"", None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        at = time.perf_counter()
        self.received += data
        if b"\r\n\r\n" not in self.received:
            return
        answer = client.read(io.BytesIO(self.received))
        if answer.status == 304 or len(answer.body) == int(answer.find("Content-Length") or 0):
            self.received = b""
            self.answered.set_result((answer, at))

    def connection_lost(self, error):
        if self.answered and not self.answered.done():
            self.answered.set_exception(error or ConnectionError("closed instead of answered"))

    def close(self):
        self.transport.abort()

    async def ask(self, *arguments, status, **fields):
        """The answer and when it came."""
        self.seen.requests += 1
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(client.request(*arguments, **fields))
        answer, at = await self.answered
        if answer.status not in status:
            raise RuntimeError(f"{arguments[0]} was answered {answer.status}")
        return answer, at

    async def poll(self, path, tag):
        """Until there is another message than that with the tag."""
        while True:
            answer, at = await self.ask("GET", path, status=(200, 304), If_None_Match=tag)
            if answer.status == 200:
                return answer, at
            await asyncio.sleep(BETWEEN_POLLS)


async def sign_in(server, pause, seen):
    """One sign-in, whose devices take up to `pause` before they write."""
    reader, writer = await Device.at(server.port, seen), await Device.at(server.port, seen)
    answer, _ = await reader.ask("POST", server.peer.create, b"", status=(201,), **TEXT)
    path = client.place(server.peer.create, answer)
    polling = asyncio.create_task(reader.poll(path, answer.field("ETag")))
    # Whoever scans does so at any moment between two polls.
    await asyncio.sleep(random.uniform(0, BETWEEN_POLLS))
    answer, _ = await writer.ask("GET", path, status=(200,))
    for size in MESSAGES:
        await asyncio.sleep(random.uniform(0, pause))
        sent = time.perf_counter()
        written, _ = await writer.ask(
            "PUT", path, b"x" * size, status=(202,), If_Match=answer.field("ETag"), **TEXT)  # fmt: skip
        following = None
        if size != MESSAGES[-1]:
            following = asyncio.create_task(writer.poll(path, written.field("ETag")))
        answer, at = await polling
        if len(answer.body) != size:
            raise RuntimeError(f"{len(answer.body)} bytes came for {size}")
        seen.delays.append(at - sent)
        reader, writer, polling = writer, reader, following
    await writer.ask("DELETE", path, status=(204,))
    reader.close()
    writer.close()


async def exchange(server, pause, seen):
    """As many requests without a rendezvous, each answered at once: what of a delay
    is the kernel's and this program's."""
    device = await Device.at(server.port, seen)
    for _ in range(2 * len(MESSAGES)):
        await asyncio.sleep(random.uniform(0, pause) / 2)
        sent = time.perf_counter()
        _, at = await device.ask("GET", server.peer.path, status=(200,))
        seen.delays.append(at - sent)
    device.close()


async def run(server, at_once, in_turn, pause):
    one = exchange if server.peer.path else sign_in
    seen = Seen()

    async def turns():
        for _ in range(in_turn):
            await one(server, pause, seen)

    await asyncio.gather(*(turns() for _ in range(at_once)))
    return seen


def cost(peer, cores, at_once, in_turn, pause):
    """The delays in milliseconds, and what one sign-in cost."""
    with peers.Server(peer, cores.server) as server, process.on(cores.load):
        begin, own, before = time.monotonic(), time.process_time(), process.cpu(server.pids)
        seen = asyncio.run(run(server, at_once, in_turn, pause))
        spent = process.cpu(server.pids) - before
        sign_ins = at_once * in_turn
        return {
            "at once": at_once,
            "p50": median(seen.delays) * 1e3,
            "p99": quantiles(seen.delays, n=100, method="inclusive")[98] * 1e3,
            "requests": seen.requests / sign_ins,
            "cpu": spent * 1e3 / sign_ins,
            "load": (time.process_time() - own) / (time.monotonic() - begin),
        }
