"""Runs the cases of whole sign-ins and prints what came of each; tests/signin/run
installs and builds what it needs, and says how to call it."""

import argparse
import asyncio
import contextlib
import functools
import os
import shlex
import shutil
import signal
import statistics
import sys
import tempfile
from itertools import groupby
from pathlib import Path

from calibration import calibrate
from cases import DECLINED, SIGNED_IN, WRONG_CODE, Case, chosen, plain
from homeserver import ROUTES, Homeserver, free_port
from rendezvousd import Counters, Rendezvousd
from sign_in import FAILURES, PATIENCE, Person, check, declined, new_device, pair, refused, sign_in, verify


def options():
    parser = argparse.ArgumentParser(prog="tests/signin/run", description="Whole sign-ins with QR code.")
    parser.add_argument("--quick", action="store_true", help="the pairs of matrix-js-sdk and two of matrix-rust-sdk")
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases with this in their line")
    parser.add_argument("--daemon-flags", default="", metavar="FLAGS", help="more flags for rendezvousd")
    parser.add_argument("--rendezvous", choices=("rendezvousd", "synapse"), default="rendezvousd",
                        help="synapse: the one built into Synapse, for its times")  # fmt: skip
    return parser.parse_args()


class Run:
    """What the cases share, and what came of them."""

    def __init__(self, options, work):
        self.options, self.work = options, work
        self.users = 0
        self.times, self.failed = [], []

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
        home.shown.clear()
        earlier = []  # counters of processes that a restart has ended
        async with server or contextlib.nullcontext():
            try:
                async with asyncio.timeout(PATIENCE):
                    times = await self.play(case, home, server, earlier)
                counted = await counts(case, home, server, earlier) if server else ""
                result = f"{max(times):5.2f} s" if times else "     ok"
                self.times += times if plain(case) else []
            except FAILURES as failure:
                result, counted = "FAILED", str(failure) or "it hangs"
                self.failed.append(case.name)
        print(f"{case.name:68}{result}  {counted}".rstrip(), flush=True)

    async def play(self, case, home, server, earlier):
        """The sign-ins of a case; how long each took."""
        if case.twist == "two at once":
            both = [Case(case.new, case.old, case.shows), Case(case.old, case.new, case.shows)]
            return sum(await together(self.play(one, home, server, earlier) for one in both), [])
        self.users += 1
        person = Person(f"user{self.users}", right_code=case.outcome != WRONG_CODE)
        if case.twist == "restart":

            async def restart():
                earlier.append(await server.restart())

            person.once_scanned = person.once_asked = restart
        async with pair(case.new, case.old, home, person.user) as (new, old):
            if case.outcome != SIGNED_IN:
                await (declined if case.outcome == DECLINED else refused)(new, old, case.shows, home, person)
                return []
            times = [await sign_in(new, old, case.shows, home, person)]
            await verify(new, [old], person)
            if case.twist == "chain":
                async with new_device(case.old, home) as third:
                    times.append(await sign_in(third, new, case.shows, home, person))
                    await verify(third, [new, old], person)
            return times


async def together(parts):
    """What they return, once all have ended; or else the first failure."""
    ends = await asyncio.gather(*parts, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return ends


# Where rendezvousd is to see that it stopped.
STAGES = {WRONG_CODE: "check_code", DECLINED: "after_check_code"}


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
    if case.outcome in STAGES:
        stopped = counters.sum("sessions_ended_total", f'stage="{STAGES[case.outcome]}"')
        check(stopped == sessions, f"{stopped} of {sessions} counted as stopped {STAGES[case.outcome]}")
    if case.route == "compressing":
        check(counters["etag_repairs_total"], "nothing was compressed")
    return line


async def play_all(run, cases):
    # Whatever is running is stopped, as by an interrupt.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    for route, group in groupby(cases, lambda case: case.route):
        await run.route(route, list(group))
    if not run.options.only and run.options.rendezvous == "rendezvousd":
        kinds = ["js"] if run.options.quick else ["js", "rust"]
        work = run.work / "calibration"
        run.failed += await calibrate(kinds, run.rendezvousd(work), work / "home")
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
