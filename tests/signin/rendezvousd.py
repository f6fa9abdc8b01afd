"""rendezvousd as a service manager runs it: on a socket that outlives it, with a
state file, and with the admin port."""

import asyncio
import re
import shlex
import signal
import socket
import urllib.error
import urllib.request

SAMPLE = re.compile(r'^rendezvousd_(\w+?)(?:\{(.*)\})? ([0-9.e+]+)$', re.M)


class Rendezvousd:
    """The server of one case after another; a start is a new process on the same socket."""

    def __init__(self, binary, flags, work, admin_port):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.log = work / "rendezvousd.log"
        self.state = work / "state"
        self.metrics = f"http://127.0.0.1:{admin_port}/metrics"
        self.arguments = [
            str(binary), "--admin", f"127.0.0.1:{admin_port}", "--state-file", str(self.state),
            "--log-level", "debug", *flags,
        ]  # fmt: skip
        self.process = None

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_):
        """Stops for good: the next start knows no sessions."""
        await self.stop()
        self.state.unlink(missing_ok=True)

    async def start(self):
        # The protocol of inherited sockets wants number 3 and the process's own id.
        line = f'exec 3<&{self.socket.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec {shlex.join(self.arguments)}'
        self.process = await asyncio.create_subprocess_exec(
            "sh", "-c", line, pass_fds=[self.socket.fileno()], stderr=open(self.log, "ab")
        )
        while True:
            try:
                return await self.counters()
            except OSError:
                await asyncio.sleep(0.05)

    async def stop(self):
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()

    async def end(self, session):
        """Ends a session if no device did, so that its outcome is counted."""
        url = f"{self.url}/rendezvous/{session.rsplit('/', 1)[1]}"
        request = urllib.request.Request(url, method="DELETE")
        try:
            await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=5).close())
        except urllib.error.HTTPError as response:
            if response.status != 404:
                raise

    async def restart(self):
        """A new process takes over the sessions; the counters of the old one, without
        what it answered after they were read."""
        before = await self.counters()
        await self.stop()
        after = await self.start()
        if after["sessions"] != before["sessions"]:
            raise RuntimeError(f"{before['sessions']} sessions before a restart, {after['sessions']} after it")
        return before

    async def counters(self):
        if self.process.returncode is not None:
            raise RuntimeError(f"rendezvousd has ended: {self.log.read_text()[-2000:]}")
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(self.metrics, timeout=5).read().decode())
        return Counters({(name, labels): float(value) for name, labels, value in SAMPLE.findall(text)})


class Counters(dict):
    """Samples by name and labels; `counters["name"]` is the sum over labels."""

    def __getitem__(self, name):
        return self.sum(name)

    def sum(self, name, *labels):
        return int(sum(v for (n, found), v in self.items() if n == name and all(l in found for l in labels)))

    def __add__(self, other):
        """Of two processes, one after the other; what is held is of the later one."""
        total = Counters(other)
        for key, value in self.items():
            if key[0].endswith("_total"):
                total[key] = value + (other.get(key) or 0)
        return total

    def outcome(self, name):
        return self.sum("sessions_ended_total", f'outcome="{name}"')

    def requests(self, method, status):
        return self.sum("requests_total", 'protocol="msc4108"', f'method="{method}"', f'status="{status}')

    def line(self):
        """What a reader wants to know of a sign-in, in one line."""
        parts = {
            "writes": self.requests("PUT", "202"),
            "reads": self.requests("GET", "200"),
            "304": self.requests("GET", "304"),
            "ETags repaired": self["etag_repairs_total"],
            "deleted": self["sessions_ended_total"],
            "live": self["sessions"],
        }
        return ", ".join(f"{value} {name}" for name, value in parts.items() if value)
