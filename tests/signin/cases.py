"""The table of cases."""

from dataclasses import dataclass, field

from homeserver import ROUTES

SIGNED_IN, DECLINED, WRONG_CODE = "signed in", "declined", "wrong check code"
KINDS = ("rust", "js")


@dataclass(frozen=True)
class Case:
    """Who signs in whom, by what route, and what comes of it."""

    new: str
    old: str
    shows: str
    route: str = "redirect"
    outcome: str = SIGNED_IN
    # "chain", "two at once" or "restart".
    twist: str = ""
    quick: bool = field(default=False, compare=False)

    @property
    def name(self):
        parts = [f"new {self.new:4}", f"old {self.old:4}", f"{self.shows} shows", f"{self.route:11}"]
        return "  ".join(parts) + f"  {self.twist or self.outcome}"


def table():
    pairs = [(new, old, shows) for new in KINDS for old in KINDS for shows in ("new", "old")]
    cases = [Case(*pair) for pair in pairs]
    for route in list(ROUTES)[1:]:
        # Each pair of SDKs; the one that shows the code changes from route to route.
        offset = list(ROUTES).index(route)
        cases += [Case(*pair, route=route) for pair in pairs[offset % 2 :: 2]]
    cases += [Case("rust", "js", "old", twist="chain"), Case("js", "rust", "new", twist="chain")]
    cases += [Case("rust", "js", "old", twist="two at once"), Case("js", "js", "new", twist="two at once")]
    cases += [Case("rust", "rust", "old", twist="restart"), Case("js", "js", "new", twist="restart")]
    for outcome in (DECLINED, WRONG_CODE):
        cases += [Case(*pair, outcome=outcome) for pair in [pairs[0], pairs[3], pairs[5], pairs[6]]]
    return sorted(cases, key=lambda case: list(ROUTES).index(case.route))


# Two with matrix-rust-sdk, which shows the code in one and scans it in the other.
RUST_QUICK = (Case("rust", "js", "new"), Case("js", "rust", "new", route="route"))


def chosen(quick, only, rendezvous):
    cases = table()
    if rendezvous == "synapse":
        # Synapse's own knows no routes and is not to be tested but timed.
        cases = [case for case in cases if case.route == "redirect" and plain(case)]
    if quick:
        cases = [case for case in cases if (case.new, case.old) == ("js", "js") or case in RUST_QUICK]
    return [case for case in cases if only in " ".join(case.name.split())]


def plain(case):
    """Whether its time says how long a sign-in takes."""
    return case.outcome == SIGNED_IN and case.twist in ("", "chain")
