"""Small SVGs. They have no background and colours that can be read on a
white page and on a dark one."""

from math import log10
from pathlib import Path
from xml.sax.saxutils import escape

TEXT = "#7d8590"
OURS = "#2f81f7"
OTHERS = "#9a7bd0"
COLOURS = [OURS, "#d0803a", "#3fa05a", OTHERS, "#c2587f"]
WIDTH = 640
LEFT = 200


def write(directory, name, height, parts):
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" '
        f'font-size="13" fill="{TEXT}">'
    )
    (directory / f"{name}.svg").write_text("\n".join([head, *parts, "</svg>", ""]))


def text(x, y, words, anchor="start", weight="normal"):
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(words)}</text>'
    )


def bars(directory, name, title, values, form="{:.0f}"):
    """A bar for each of the named values; ours, the first, has a colour of
    its own."""
    most = max(values.values())
    parts = [text(0, 16, title, weight="bold")]
    for place, (label, value) in enumerate(values.items()):
        y = 32 + 26 * place
        width = max(1, (WIDTH - LEFT - 80) * value / most)
        colour = OURS if label.startswith("rendezvousd") else OTHERS
        parts.append(text(LEFT - 10, y + 14, label, "end"))
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.0f}" height="18" rx="2" fill="{colour}"/>')
        parts.append(text(LEFT + width + 6, y + 14, form.format(value)))
    write(directory, name, 32 + 26 * len(values) + 6, parts)


def lines(directory, name, title, series, unit):
    """A line for each of the named series, which map x to y; both axes
    begin at nothing."""
    left, right, top, bottom = 50, WIDTH - 215, 34, 250
    most_x = max(x for points in series.values() for x in points)
    most_y = max(y for points in series.values() for y in points.values())
    parts = [text(0, 16, title, weight="bold")]

    def at(x, y):
        return left + (right - left) * x / most_x, bottom - (bottom - top) * y / most_y

    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = at(most_x * share, most_y * share)
        parts.append(f'<path d="M{left} {y:.0f}H{right}" stroke="{TEXT}" stroke-opacity="0.3"/>')
        parts.append(text(left - 6, y + 4, f"{most_y * share:.0f}", "end"))
        parts.append(text(x, bottom + 18, f"{most_x * share:.0f}", "middle"))
    parts.append(text(right + 28, bottom + 18, unit))
    ends = []
    for colour, (label, points) in zip(COLOURS, series.items()):
        path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in sorted(points.items()))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        ends.append([at(0, points[max(points)])[1], label, colour])
    below = top - 16
    for y, label, colour in sorted(ends):
        below = max(y, below + 16)
        parts.append(f'<circle cx="{right + 14}" cy="{below:.0f}" r="4" fill="{colour}"/>')
        parts.append(text(right + 24, below + 4, label))
    write(directory, name, bottom + 28, parts)


# Of the attacks, one of each kind.
SHOWN = [
    "slow heads, 2000 from 100", "slow bodies, 2000 from 100", "keep-alive, 2000 from 100",
    "endless header line", "pipelines never read", "creations from 1000",
    "creations, new connections", "64 descriptors, 500 from 100", "everything at once",
]  # fmt: skip


def attacks(directory, printed):
    """Two bars a row, ours and the predecessor's, of what tests/attack/run
    has printed: a name of 34 columns, then seven cells each."""
    rows = []
    for line in printed.splitlines():
        name, cells = line[:34].strip(), line[34:].split()
        if name in SHOWN and len(cells) == 14:
            # Answered, failed, reopened, p50, p99, MiB, threads.
            rows.append((name, [(float(p99), int(failed)) for failed, p99 in
                                ((cells[1], cells[4]), (cells[8], cells[11]))]))  # fmt: skip
    if not rows:
        raise SystemExit("--attacks: no row of that file has both servers")
    low = 0.1
    decades = log10(max(p99 for _, pair in rows for p99, _ in pair) / low)
    parts = [text(0, 16, "Others' requests while attacked: 99th percentile, ms (logarithmic)", weight="bold")]
    for x, label, colour in ((LEFT, "rendezvousd", OURS), (LEFT + 120, "predecessor", OTHERS)):
        parts.append(f'<rect x="{x}" y="26" width="10" height="10" fill="{colour}"/>')
        parts.append(text(x + 16, 36, label))
    for place, (name, pair) in enumerate(rows):
        y = 48 + 34 * place
        parts.append(text(LEFT - 10, y + 18, name, "end"))
        for top, (p99, failed), colour in zip((y, y + 13), pair, (OURS, OTHERS)):
            width = max(2, (WIDTH - LEFT - 130) * log10(max(p99, low) / low) / decades)
            parts.append(f'<rect x="{LEFT}" y="{top}" width="{width:.0f}" height="12" fill="{colour}"/>')
            parts.append(text(LEFT + width + 6, top + 10, f"{p99:g}" + (f", {failed} failed" if failed else "")))
    write(directory, "attacks", 48 + 34 * len(rows) + 4, parts)
