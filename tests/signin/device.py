"""A device: a process of one of the two SDKs, which takes commands and says what
happens, a line of JSON each."""

import asyncio
import json
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parent / "sdk/msc4108/device.mjs"


def command(kind):
    # run has built it, and names it.
    return {"rust": [os.environ.get("SIGNIN_CLIENT")], "js": ["node", str(SCRIPT)]}[kind]


class Failed(Exception):
    """What a device says when its part fails."""


class Device:
    """One device, `rust` or `js`; knows which homeserver its user uses."""

    def __init__(self, kind, homeserver, log):
        self.kind, self.homeserver, self.log = kind, homeserver, log
        self.process = None

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            *command(self.kind),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=open(self.log, "ab"),
            limit=1 << 20,
        )
        return self

    async def __aexit__(self, *_):
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    def tell(self, do=None, **fields):
        """Gives a command, or an answer to what the device asked."""
        line = {"do": do, "homeserver": self.homeserver, **fields} if do else fields
        self.process.stdin.write(json.dumps(line).encode() + b"\n")

    async def hear(self, name):
        """The next event of this name, with the time when it came."""
        while line := await self.process.stdout.readline():
            event = json.loads(line) | {"at": asyncio.get_running_loop().time()}
            if event["event"] == name:
                return event
            if event["event"] == "failed":
                raise Failed(f"{self.kind}: {event['reason']}")
        raise Failed(f"{self.kind} ended: {Path(self.log).read_text()[-2000:]}")

    async def ask(self, do, **fields):
        """A command whose answer has its name."""
        self.tell(do, **fields)
        return await self.hear(do)
