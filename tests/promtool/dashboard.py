"""Checks of systemd/monitoring/dashboard.json and alerts.yaml.

    dashboard.py schema                 the dashboard by Grafana's schema
    dashboard.py rules                  its queries, as a rule file for promtool
    dashboard.py names METRICS          the metrics that are named and those of a page
    dashboard.py queries PROMETHEUS     every query, asked of a Prometheus that has data

Says what is wrong and exits with 1. Only the first needs what is in
requirements.txt.
"""

import json
import re
import sys
import time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

DIRECTORY = Path(__file__).parents[2] / "systemd/monitoring"
DASHBOARD = json.loads((DIRECTORY / "dashboard.json").read_text())
ALERTS = (DIRECTORY / "alerts.yaml").read_text()

# What Grafana puts in place of its variables.
VARIABLES = {"$instance": ".+", "$__rate_interval": "2m", "$__range": "1d"}


def queries():
    """The queries of all panels and annotations, with what they are for."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], filled(target["expr"])
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], filled(annotation["expr"])


def filled(query):
    for name, text in VARIABLES.items():
        query = query.replace(name, text)
    assert "$" not in query, query
    return query


def schema():
    """What is in the dashboard comes back from Grafana's own types, all of it."""
    from grafana_foundation_sdk.cog import encoder, plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()
    read = Dashboard.from_json(DASHBOARD)
    problems = [*lost(DASHBOARD, json.loads(json.dumps(read, cls=encoder.JSONEncoder)), "dashboard")]
    panels = DASHBOARD["panels"]
    if len({panel["id"] for panel in panels}) < len(panels):
        problems.append("two panels have one id")
    problems += [f"{one} and {other} overlap" for one, other in overlaps(panels)]
    return problems


def lost(there, back, path):
    if isinstance(there, dict) and isinstance(back, dict):
        for key, value in there.items():
            yield from lost(value, back[key], f"{path}.{key}") if key in back else [f"no such key: {path}.{key}"]
    elif isinstance(there, list) and isinstance(back, list) and len(there) == len(back):
        for place, (value, other) in enumerate(zip(there, back)):
            yield from lost(value, other, f"{path}[{place}]")
    elif there != back:
        yield f"{path}: {there!r} became {back!r}"


def overlaps(panels):
    def cells(panel):
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        rows = range(place["y"], place["y"] + place["h"])
        return {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in rows}

    for place, one in enumerate(panels):
        for other in panels[:place]:
            if cells(one) & cells(other):
                yield one["title"], other["title"]


def rules():
    """Every query as a recording rule, which promtool parses. JSON is YAML."""
    texts = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    print(json.dumps({"groups": [{"name": "dashboard", "rules": texts}]}))
    return []


def names(page):
    """A metric that is renamed, there or here, is missed in one of them."""
    served = dict(re.findall(r"^# TYPE (\w+) (\w+)$", Path(page).read_text(), re.M))
    text = ALERTS + json.dumps(DASHBOARD)
    named = set(re.findall(r"\b(?:rendezvousd|process)_[a-z_]+\b", text))
    named = {name.removesuffix("_bucket") if name not in served else name for name in named}
    if len(served) < 20:
        return ["hardly a metric is served"]
    return [f"{name} is not served" for name in sorted(named - served.keys())] + [
        f"{name} is not in the dashboard" for name in sorted(served.keys() - named)
    ]


def ask(prometheus, query):
    """The series that a query has, now."""
    with urlopen(f"http://{prometheus}/api/v1/query?{urlencode({'query': query})}", timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def answered(prometheus, query, patience=30):
    """Whether a query has an answer, in time."""
    end = time.monotonic() + patience
    while not (result := ask(prometheus, query)) and time.monotonic() < end:
        time.sleep(0.5)
    return result


def asked(prometheus):
    """Every query of a panel has an answer, as a rate after the second scrape."""
    if not answered(prometheus, 'up{job="rendezvousd"} == 1'):
        return ["Prometheus does not reach rendezvousd"]
    # That there was no start is right.
    wanted = [(title, query) for title, query in queries() if title != "Starts"]
    return [f"{title}: no answer to {query}" for title, query in wanted if not answered(prometheus, query)]


COMMANDS = {"schema": schema, "rules": rules, "names": names, "queries": asked}

if __name__ == "__main__":
    found = COMMANDS[sys.argv[1]](*sys.argv[2:])
    print("\n".join(found), end="\n" if found else "", file=sys.stderr)
    sys.exit(bool(found))
