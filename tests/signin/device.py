"""A device: a process of one of the two SDKs, which takes commands and says what
happens, a line of JSON each."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "sdk/msc4108/device.mjs"


def command(kind):
    # run has built the one in Rust, and names it.
    return [os.environ["SIGNIN_CLIENT"]] if kind == "rust" else ["node", str(SCRIPT)]


class Failed(Exception):
    """What a device says when its part fails."""


class Device:
    """One device, `rust` or `js`; knows which homeserver its user uses."""

    def __init__(self, kind, homeserver, log):
        self.kind, self.homeserver, self.log = kind, homeserver, log
        self.events = asyncio.Queue()
        self.failure = asyncio.get_running_loop().create_future()

    async def __aenter__(self):
        with open(self.log, "ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command(self.kind), stdin=PIPE, stdout=PIPE, stderr=log, limit=1 << 20
            )
        self.reader = asyncio.create_task(self.read())
        return self

    async def __aexit__(self, *_):
        self.reader.cancel()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def read(self):
        while line := await self.process.stdout.readline():
            event = json.loads(line) | {"at": asyncio.get_running_loop().time()}
            if event["event"] == "failed":
                break
            self.events.put_nowait(event)
        reason = event["reason"] if line else f"it ended; see {self.log}"
        self.failure.set_result(Failed(f"{self.kind}: {reason}"))

    def tell(self, do=None, **fields):
        """Gives a command, or an answer to what the device asked."""
        line = {"do": do, "homeserver": self.homeserver, **fields} if do else fields
        self.process.stdin.write(json.dumps(line).encode() + b"\n")

    async def hear(self, name):
        """The next event of this name, with the time when it came."""
        return await unless_failed(self.next(name), self)

    async def next(self, name):
        while (event := await self.events.get())["event"] != name:
            pass
        return event

    async def ask(self, do, **fields):
        """A command whose answer has its name."""
        self.tell(do, **fields)
        return await self.hear(do)


async def unless_failed(waiting, *devices):
    """What is waited for, unless one of the devices fails before."""
    waiting = asyncio.ensure_future(waiting)
    failures = [device.failure for device in devices]
    try:
        await asyncio.wait([waiting, *failures], return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        raise next(failure.result() for failure in failures if failure.done())
    finally:
        waiting.cancel()
