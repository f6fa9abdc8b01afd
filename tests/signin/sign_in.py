"""One sign-in: a new and an old device, with a person between them who carries what
they show from one to the other."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass

import browser
from device import Device, Failed, unless_failed
from homeserver import NAME

# A sign-in takes some seconds; this finds one that hangs.
PATIENCE = 90
# How long the device that is left alone is watched.
ALONE = 3


class Wrong(Exception):
    """What a case finds to be otherwise than it must be."""


def check(condition, what):
    if not condition:
        raise Wrong(what)


# What a sign-in can end with that is not well.
FAILURES = (Wrong, Failed, TimeoutError)


async def nothing():
    """What happens in the middle of most sign-ins."""


@dataclass
class Person:
    """What somebody does, and what happens meanwhile."""

    user: str
    right_code: bool = True
    allow: bool = True
    before_scan: object = nothing
    once_scanned: object = nothing
    once_asked: object = nothing


def new_device(kind, home):
    """A device that nobody has signed in on."""
    return Device(kind, home.base, home.work / "devices.log")


@asynccontextmanager
async def pair(new, old, home, user):
    """A new device, and an old one that is the first of a new account."""
    async with new_device(old, home) as first, new_device(new, home) as second:
        async with asyncio.timeout(PATIENCE):
            first.tell("first")
            page = await first.hear("browse")
            first.tell(callback=await browser.answer(page["url"], user))
            await first.hear("ready")
        yield second, first


def session_of(code):
    """The address in a QR code of MSC4108: after 6 bytes of magic, version and
    intent's byte, and a key of 32."""
    code = bytes(code)
    check(code[:7] == b"MATRIX\x02", "the code is none of MSC4108")
    length = int.from_bytes(code[40:42], "big")
    return code[42 : 42 + length].decode()


async def meet(new, old, shows, home, person):
    """From the code to the check code; the time at which the code was scanned."""
    return await unless_failed(channel(new, old, shows, home, person), new, old)


async def channel(new, old, shows, home, person):
    shower, scanner = (new, old) if shows == "new" else (old, new)
    part = {new: "new", old: "old"}
    shower.tell("show", **{"as": part[shower]})
    code = (await shower.hear("code"))["code"]
    home.shown.append(session_of(code))
    check(home.shown[-1].startswith(home.sessions), f"the code names {home.shown[-1]}, not {home.sessions}")
    await person.before_scan()
    start = asyncio.get_running_loop().time()
    scanner.tell("scan", code=code, **{"as": part[scanner]})
    digits = (await scanner.hear("check_code"))["code"]
    await shower.hear("scanned")
    await person.once_scanned()
    shower.tell(check_code=digits if person.right_code else f"{(int(digits) + 1) % 100:02}")
    return start


async def sign_in(new, old, shows, home, person):
    """A sign-in to its end; the seconds from scanned to signed in with the secrets."""
    start = await meet(new, old, shows, home, person)
    done = await unless_failed(grant(new, old, person), new, old)
    return done["at"] - start


async def grant(new, old, person):
    asked = await old.hear("consent")
    await person.once_asked()
    await browser.answer(asked["url"], person.user)
    done, _ = await asyncio.gather(new.hear("done"), old.hear("done"))
    return done


async def verify(new, trusting, person):
    """That the new device is one of the account, with all that makes it one."""
    report = await new.ask("report")
    check(report["user"] == f"@{person.user}:{NAME}", f"whoami says {report['user']}")
    check(report["secrets"] == [True] * 3, f"cross-signing secrets: {report['secrets']}")
    check(report["backup"], "the new device lacks the key backup")
    check(report["verified"], "the new device does not see itself verified")
    for old in trusting:
        answer = await old.ask("trust", device=report["device"])
        check(answer["trusted"], f"the new device is not trusted by {old.kind}")


async def declined(new, old, shows, home, person):
    """The user says no; both devices must notice, and neither may end well."""
    await meet(new, old, shows, home, person)
    asked = await old.hear("consent")
    await browser.answer(asked["url"], person.user, allow=False)
    ends = await asyncio.gather(new.hear("done"), old.hear("done"), return_exceptions=True)
    for end in ends:
        check(isinstance(end, Failed), f"declined, and yet: {end}")


async def refused(new, old, shows, home, person):
    """A wrong check code: the one that shows must stop, and the other get nowhere."""
    await meet(new, old, shows, home, person)
    shower, scanner = (new, old) if shows == "new" else (old, new)
    try:
        await shower.hear("done")
        raise Wrong("a wrong check code was accepted")
    except Failed as failed:
        check("check code" in str(failed), str(failed))
    try:
        async with asyncio.timeout(ALONE):
            await scanner.hear("done")
        raise Wrong("the other device ended well")
    except (Failed, TimeoutError):
        pass
