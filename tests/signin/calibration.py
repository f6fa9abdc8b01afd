"""Shows that a sign-in can fail: with each fault of a proxy it must, and without one
it must not."""

import asyncio

from faults import FAULTS, Faults
from homeserver import Homeserver
from sign_in import FAILURES, Person, pair, sign_in, verify

# Some sign-ins hang; with no fault, one ends well within this.
PATIENCE = 30


async def calibrate(kinds, rendezvousd, work):
    """A line for each; those that ended otherwise than they must."""
    print("== calibration: by a proxy that does something wrong", flush=True)
    wrong = []
    async with rendezvousd, Faults(rendezvousd.url) as proxy, Homeserver("redirect", proxy.url, work) as home:
        for number, (fault, kind) in enumerate((fault, kind) for fault in FAULTS for kind in kinds):
            proxy.reset(fault)
            failure = await failure_of(kind, home, proxy, f"user{number}")
            await rendezvousd.counters()  # it must still be there
            good = (failure is None) == (fault is None) and bool(proxy.applied) == (fault is not None)
            line = f"{kind:4}  {FAULTS[fault]:32}  {(failure or 'signed in')[:80]}"
            print(line if good else f"{line}  FAILED: not as it must be", flush=True)
            wrong += [] if good else [line]
    return wrong


async def failure_of(kind, home, proxy, user):
    """How a sign-in fails; none if it is well."""
    person = Person(user)
    if proxy.fault == "etag":
        # Only a poll after one in vain shows this.
        person.before_scan = proxy.polled.wait
    async with pair(kind, kind, home, user) as (new, old):
        try:
            async with asyncio.timeout(PATIENCE):
                await sign_in(new, old, "new", home, person)
                await verify(new, [old], person)
        except FAILURES as failure:
            return str(failure) or "hangs"
    return None
