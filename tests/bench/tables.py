"""The figures as tables of plain text."""

import re
from statistics import median

# wrk had no time left, so that the server could have done more.
LIMITED = 0.93


def middle(costs, key):
    return median(cost[key] for cost in costs)


def spread(costs, key="cpu"):
    """How far the rounds are apart, as a share of their median."""
    values = [cost[key] for cost in costs]
    return (max(values) - min(values)) / median(values)


def table(title, heads, rows):
    """Prints a table, its first column to the left."""
    rows = [[str(cell) for cell in row] for row in rows]
    columns = list(zip(heads, *rows))
    widths = [max(len(cell) for cell in column) for column in columns]
    print(f"\n{title}\n")
    for row in [heads, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())


def point(title, costs_by_peer, titles):
    """One table a work: ours against each other's."""
    ours = costs_by_peer["ours"]
    limited = {name for name, costs in costs_by_peer.items() if middle(costs, "wrk") > LIMITED}
    rows = []
    for name, costs in costs_by_peer.items():
        rates = middle(ours, "rate") / middle(costs, "rate")
        rows.append([
            titles[name],
            f"{middle(costs, 'cpu'):.2f}",
            f"{middle(ours, 'cpu') / middle(costs, 'cpu'):.2f}",
            f"{middle(costs, 'cpu') * middle(costs, 'own'):.2f}",
            f"{middle(costs, 'cpu') * (1 - middle(costs, 'own')):.2f}",
            f"{spread(costs):.0%}",
            f"{middle(costs, 'rate'):.0f}{'*' if name in limited else ''}",
            "-" if {name, "ours"} <= limited else f"{rates:.2f}",
            f"{middle(costs, 'p50'):.2f}",
            f"{middle(costs, 'p99'):.2f}",
        ])  # fmt: skip
    heads = ["server", "CPU, us", "ratio", "own", "kernel", "spread",
             "requests/s", "ratio", "p50, ms", "p99, ms"]  # fmt: skip
    table(title, heads, rows)
    if limited:
        print("* wrk had no time left, and made the delays: the server could have done more")


def connections(work, costs, titles):
    """By number of connections, kept and opened for each request."""
    kinds = list(costs)
    heads = ["server", *(f"{n}{' new' if close else ''}" for n, close in kinds)]
    for key, title, form in [
        ("cpu", "CPU in us, by connections, kept or new for each request", "{:.2f}"),
        ("rate", "requests a second", "{:.0f}"),
        ("p50", "p50, ms", "{:.2f}"),
        ("p99", "p99, ms", "{:.2f}"),
    ]:
        rows = []
        for name in titles:
            cells = [
                form.format(middle(costs[kind][name], key)) if costs[kind].get(name) else "-"
                for kind in kinds
            ]
            if any(cell != "-" for cell in cells):
                rows.append([titles[name], *cells])
        table(f"{work}: {title}", heads, rows)


def footprint(rows, titles, done):
    """What servers take at rest and loaded; `rows` by peer and figure."""
    columns = {
        "binary": ("binary, KiB", "{:.0f}"),
        "threads": ("threads", "{}"),
        "start": ("first answer, ms", "{:.1f}"),
        "idle": ("idle, MiB", "{:.1f}"),
        "full": ("10 000 x 4 KiB, MiB", "{:.1f}"),
        "ended": ("when they ended", "{:.1f}"),
        "beside4096": ("bytes beside 4 KiB", "{:.0f}"),
        "beside512": ("beside 512", "{:.0f}"),
        "after": (f"after {done:g} M requests, MiB", "{:.1f}"),
        "calls": ("calls a GET", "{:.2f}"),
    }
    heads = ["server", *(head for head, _ in columns.values())]
    table("What a server takes; memory is resident, all processes together", heads, [
        [titles[name], *(form.format(row[key]) if key in row else "-" for key, (_, form) in columns.items())]
        for name, row in rows.items()
    ])  # fmt: skip
    for name, row in rows.items():
        if "names" in row:
            most = sorted(row["names"].items(), key=lambda item: -item[1])
            words = ", ".join(f"{call} {n:.3f}" for call, n in most if n >= 0.001)
            print(f"  {titles[name]}: {words}")


def instructions(counts, titles):
    works = list(dict.fromkeys(work for by_work in counts.values() for work in by_work))
    table("Instructions a request outside the kernel (callgrind)", ["server", *works], [
        [titles[name], *(f"{by_work[work]:.0f}" if work in by_work else "-" for work in works)]
        for name, by_work in counts.items()
    ])  # fmt: skip


def slow_connections(figures, count, titles):
    places = ["alone", "nobody", "own"]
    rows = []
    for name, rounds in figures.items():
        costs = {place: [one[place] for one in rounds] for place in places}
        cells = [f"{middle(costs[place], key):.2f}" for key in ("cpu", "p50", "p99") for place in places]
        times = middle(costs["own"], "p99") / middle(costs["nobody"], "p99")
        most = max(spread(costs[place], "p99") for place in places)
        rows.append([titles[name], *cells, f"{times:.2f}", f"{most:.0%}"])
    heads = ["server", *(f"{key} {place}" for key in ("CPU, us", "p50, ms", "p99, ms") for place in places),
             "p99, own to nobody's", "spread"]  # fmt: skip
    table(f"GET alone, and beside {count} slow connections: to nobody, its own", heads, rows)


def sessions(figures):
    first = figures[min(figures)]
    rows = []
    for number, row in figures.items():
        cells = [f"{median(row[key]):.2f}" for key in ("get", "turnover")]
        times = [f"{median(row[key]) / median(first[key]):.2f}" for key in ("get", "turnover")]
        rows.append([number, cells[0], times[0], cells[1], times[1], f"{row['rss'][0]:.0f}"])
    heads = ["sessions", "GET of any, us", "times", "POST or DELETE, us", "times", "MiB"]
    table("rendezvousd: CPU a request by sessions of 512 bytes held", heads, rows)


def workers(figures):
    heads = ["workers", "CPU, us", "requests/s", "p99, ms"]
    table("rendezvousd: GET by workers, which share all cores with wrk", heads, [
        [number, f"{middle(c, 'cpu'):.2f}", f"{middle(c, 'rate'):.0f}", f"{middle(c, 'p99'):.2f}"]
        for number, c in figures.items()
    ])  # fmt: skip


def delivery(rows):
    heads = ["server", "sign-ins at once", "p50, ms", "p99, ms", "requests", "CPU, ms", "load's core"]
    table("From a PUT to the answer that the other device polls for; requests and CPU a sign-in", heads, [
        [title, cost["at once"], f"{cost['p50']:.2f}", f"{cost['p99']:.2f}", f"{cost['requests']:.1f}",
         f"{cost['cpu']:.2f}", f"{cost['load']:.0%}"]
        for title, cost in rows
    ])  # fmt: skip


SIGN_INS = r"(.+): from scan to signed in, (\d+) sign-ins: median (.+) s, (.+) to (.+) s"


def sign_ins(printed):
    """Of what tests/bench/sign-ins has collected; the medians."""
    rows = re.findall(SIGN_INS, printed)
    heads = ["server", "sign-ins", "median, s", "least", "most"]
    table(f"From scan to secrets, real clients and a real Synapse; {printed.splitlines()[0]}", heads, rows)
    return {title: float(middle) for title, _, middle, _, _ in rows}


def paper(mix, meeting, factor):
    """How far a Raspberry Pi goes."""
    requests = sum(meeting)
    here = middle(mix, "cpu")
    there = here * factor
    a_second = 1e6 / (requests * there)
    print(f"""
On paper: how far one Pi goes

A sign-in is {requests} requests: {meeting[0]} POST, {meeting[1]} PUTs, {meeting[2]} polls, {meeting[3]} DELETE.
measured here           {here:10.2f} us of CPU a request of that mix
assumed, not measured   {factor:10.2f} times that on a core of a Pi
so on the Pi            {requests * there / 1e3:10.2f} ms of CPU a sign-in
half of one core does   {a_second / 2:10.0f} sign-ins a second
10 000 sessions do      {10_000 / 60:10.0f} sign-ins a second of a minute each (--max-entries)
TLS is the proxy's, and is not in this.""")
