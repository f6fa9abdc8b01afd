"""Small SVGs. They have no background and colours that can be read on a
white page and on a dark one."""

from pathlib import Path
from xml.sax.saxutils import escape

TEXT = "#7d8590"
OURS = "#2f81f7"
OTHERS = "#9a7bd0"
COLOURS = [OURS, "#d0803a", "#3fa05a", OTHERS, "#c2587f"]
WIDTH = 640
LEFT = 230


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
    left, right, top, bottom = 50, WIDTH - 190, 34, 250
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
    parts.append(text(right + 12, bottom + 18, unit))
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


def attacks(directory, name, title, rows):
    """Two bars a row, ours and the predecessor's, on a logarithmic scale:
    `rows` are of a label and two values in ms, None for nothing."""
    from math import log10

    left, low = 230, 0.1
    most = max(value for _, *pair in rows for value in pair if value is not None)

    def width(value):
        scale = log10(max(most, low * 10) / low)
        return max(2, (WIDTH - left - 80) * log10(max(value, low) / low) / scale)

    parts = [
        text(0, 16, title, weight="bold"),
        f'<rect x="{left}" y="24" width="10" height="10" fill="{OURS}"/>',
        text(left + 16, 34, "rendezvousd"),
        f'<rect x="{left + 120}" y="24" width="10" height="10" fill="{OTHERS}"/>',
        text(left + 136, 34, "predecessor"),
    ]
    for place, (label, *pair) in enumerate(rows):
        y = 44 + 30 * place
        parts.append(text(left - 10, y + 17, label, "end"))
        for bar, (value, colour) in enumerate(zip(pair, (OURS, OTHERS))):
            if value is None:
                continue
            top = y + 12 * bar
            parts.append(
                f'<rect x="{left}" y="{top}" width="{width(value):.0f}" height="11" fill="{colour}"/>'
            )
            parts.append(
                f'<text x="{left + width(value) + 6:.0f}" y="{top + 10}" font-size="11">{value:g}</text>'
            )
    write(directory, name, 44 + 30 * len(rows) + 4, parts)
