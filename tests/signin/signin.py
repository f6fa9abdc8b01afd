"""Runs the cases of whole sign-ins and prints what came of each; tests/signin/run
installs and builds what it needs, and says how to call it."""

import argparse
import asyncio
import contextlib
import functools
import os
import shlex
import shutil
import statistics
import sys
import tempfile
from itertools import groupby
from pathlib import Path

import faults
from cases import DECLINED, SIGNED_IN, WRONG_CODE, Case, chosen, plain
from device import Device, Failed
from homeserver import ROUTES, Homeserver, free_port
from rendezvousd import Counters, Rendezvousd
from sign_in import Person, Wrong, check, declined, first_device, refused, sign_in, verify

# A sign-in takes some seconds; one that hangs is found out by this.
PATIENCE = 90
PATIENCE_WITH_FAULTS = 30
FAILURES = (Wrong, Failed, TimeoutError)


def options():
    parser = argparse.ArgumentParser(prog="tests/signin/run", description="Whole sign-ins with QR code.")
    parser.add_argument("--quick", action="store_true", help="the pairs of matrix-js-sdk and two of matrix-rust-sdk")
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases with this in their line")
    parser.add_argument("--daemon-flags", default="", metavar="FLAGS", help="more flags for rendezvousd")
    parser.add_argument("--rendezvous", choices=("rendezvousd", "synapse"), default="rendezvousd",
                        help="synapse: the one built into Synapse, for its times")  # fmt: skip
    return parser.parse_args()


class Run:
    """What the cases share: the options, a directory and a name for each user."""

    def __init__(self, options, work):
        self.options, self.work = options, work
        self.users = 0
        self.times, self.failed = [], []

    def person(self, **behaviour):
        self.users += 1
        return Person(f"user{self.users}", **behaviour)

    def rendezvousd(self, work):
        work.mkdir(parents=True)
        flags = shlex.split(self.options.daemon_flags)
        return Rendezvousd(os.environ["RENDEZVOUSD"], flags, work, free_port())

    async def route(self, route, cases):
        own = self.options.rendezvous == "rendezvousd"
        print(f"== by {ROUTES[route] if own else 'Synapse itself'}", flush=True)
        work = self.work / route
        server = self.rendezvousd(work) if own else None
        async with Homeserver(route, server.url if own else None, work / "home") as home:
            for case in cases:
                await self.case(case, home, server)

    async def case(self, case, home, server):
        """One case on a rendezvousd of its own, and its line."""
        earlier = []
        home.shown.clear()
        if server:
            await server.start()
        try:
            async with asyncio.timeout(PATIENCE):
                times = await self.play(case, home, server, earlier)
            counted = await counts(case, home, server, earlier) if server else ""
            result = f"{max(times):5.2f} s" if times else "     ok"
            self.times += times if plain(case) else []
        except FAILURES as failure:
            result, counted = "FAILED", str(failure) or "it hangs"
            self.failed.append(case.name)
        if server:
            await server.forget()
        print(f"{case.name:68}{result}  {counted}".rstrip(), flush=True)

    async def play(self, case, home, server, earlier):
        """The sign-ins of a case; how long each took."""
        if case.twist == "two at once":
            mirrored = Case(case.old, case.new, case.shows)
            both = [self.play(Case(c.new, c.old, c.shows), home, server, earlier) for c in (case, mirrored)]
            return sum(await together(both), [])
        person = self.person()
        if case.twist == "restart":

            async def restart():
                earlier.append(await server.restart())

            person.once_scanned = person.once_asked = restart
        async with contextlib.AsyncExitStack() as devices:
            old = await devices.enter_async_context(ready(first_device(case.old, home, person.user)))
            new = await devices.enter_async_context(Device(case.new, home.base, home.work / "devices.log"))
            return await self.between(case, new, old, home, person, devices)

    async def between(self, case, new, old, home, person, devices):
        if case.outcome == DECLINED:
            await declined(new, old, case.shows, home, person)
            return []
        if case.outcome == WRONG_CODE:
            person.right_code = False
            await refused(new, old, case.shows, home, person)
            return []
        times = [await sign_in(new, old, case.shows, home, person)]
        await verify(new, [old], person)
        if case.twist == "chain":
            third = await devices.enter_async_context(Device(case.old, home.base, home.work / "devices.log"))
            times.append(await sign_in(third, new, case.shows, home, person))
            await verify(third, [new, old], person)
        return times

    async def calibrate(self):
        """With each fault a sign-in must fail, and without one it must not."""
        print("== calibration: by a proxy that does something wrong", flush=True)
        work = self.work / "calibration"
        server = self.rendezvousd(work)
        await server.start()
        kinds = ["js"] if self.options.quick else ["js", "rust"]
        async with faults.Faults(server.url) as proxy, Homeserver("redirect", proxy.url, work / "home") as home:
            for fault, what in faults.FAULTS.items():
                for kind in kinds:
                    proxy.reset(fault)
                    case = Case(kind, kind, "new")
                    end = await self.spoiled(case, home, proxy)
                    await server.counters()  # it must still be there
                    good = (end is None) == (fault is None) and bool(proxy.applied) == (fault is not None)
                    verdict = "" if good else "  FAILED: not as it must be"
                    print(f"{kind:4}  {what:32}  {(end or 'signed in')[:80]}{verdict}", flush=True)
                    self.failed += [] if good else [f"{kind} {what}"]
        await server.forget()

    async def spoiled(self, case, home, proxy):
        """How a sign-in ends; none if it is well."""
        person = self.person()
        if proxy.fault == "etag":
            # Only a poll after one in vain shows this.
            person.before_scan = proxy.polled.wait
        async with contextlib.AsyncExitStack() as devices:
            old = await devices.enter_async_context(ready(first_device(case.old, home, person.user)))
            new = await devices.enter_async_context(Device(case.new, home.base, home.work / "devices.log"))
            try:
                async with asyncio.timeout(PATIENCE_WITH_FAULTS):
                    await sign_in(new, old, case.shows, home, person)
                    await verify(new, [old], person)
            except FAILURES as failure:
                return str(failure) or "hangs"
        return None


async def together(parts):
    """What they return, once all have ended; or else the first failure."""
    ends = await asyncio.gather(*parts, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return ends


@contextlib.asynccontextmanager
async def ready(device):
    """A device that has been started already, until it is no longer needed."""
    device = await device
    try:
        yield device
    finally:
        await device.__aexit__()


async def counts(case, home, server, earlier):
    """What rendezvousd counted, which must be what happened."""
    counters = functools.reduce(Counters.__add__, [*earlier, await server.counters()])
    line = counters.line()
    for session in home.shown:
        await server.end(session)
    counters = functools.reduce(Counters.__add__, [*earlier, await server.counters()])
    sessions = len(home.shown)
    check(counters["sessions_created_total"] == sessions, f"{counters['sessions_created_total']} sessions created")
    check(not counters.requests("PUT", "4"), f"{counters.requests('PUT', '4')} writes refused")
    outcome = "completed" if case.outcome == SIGNED_IN else "aborted"
    check(counters.outcome(outcome) == sessions, f"{counters.outcome(outcome)} of {sessions} counted as {outcome}")
    if case.route == "compressing":
        check(counters["etag_repairs_total"], "nothing was compressed")
    return line


async def play_all(run, cases):
    for route, group in groupby(cases, lambda case: case.route):
        await run.route(route, list(group))
    if not run.options.only and run.options.rendezvous == "rendezvousd":
        await run.calibrate()
    if run.times:
        median, least, most = statistics.median(run.times), min(run.times), max(run.times)
        print(f"from scan to signed in, {len(run.times)} sign-ins: median {median:.2f} s, {least:.2f} to {most:.2f} s")


def main():
    run_options = options()
    cases = chosen(run_options.quick, run_options.only, run_options.rendezvous)
    work = Path(tempfile.mkdtemp(prefix="signin-"))
    work.chmod(0o755)
    run = Run(run_options, work)
    asyncio.run(play_all(run, cases))
    if run.failed or not cases:
        print("\n  ".join(["FAILED:", *(run.failed or ["no such case"]), f"logs are in {work}"]), file=sys.stderr)
        sys.exit(1)
    shutil.rmtree(work)
    print("whole sign-ins: all is well")


if __name__ == "__main__":
    main()
