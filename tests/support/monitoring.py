"""What is said about metrics, in the code, in docs/monitoring.md, in the alerts and in the dashboard; and what a process really shows.

``python -m tests.support.monitoring`` prints the rows that docs/monitoring.md must have, to be put under their processes.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import httpx

from deploy.stack.places import ROOT

PAGE = ROOT / "docs" / "monitoring.md"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
CONFIGURATION = ROOT / "deploy" / "prometheus" / "prometheus.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "mailwarren.json"
QUEUES = "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count"
"""Where RabbitMQ tells of each queue, as prometheus.yml asks."""

_KINDS = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram", "Metric": ""}
_ROW = re.compile(r"^\| `([a-z_]+)(?:\{([a-z_, ]+)\})?` \| (\w+) \| ([a-z, -]+) \| (.+) \|$", re.MULTILINE)
_WORDS = frozenset(("and", "or", "unless", "bool", "offset"))


@dataclass(frozen=True, slots=True)
class Shown:
    """A metric as Prometheus sees it."""

    name: str
    kind: str
    """counter, gauge, histogram, untyped."""
    labels: tuple[str, ...]
    meaning: str

    def render(self) -> str:
        """Its row in docs/monitoring.md, with a place for its processes."""
        labels = f"{{{','.join(self.labels)}}}" if self.labels else ""
        return f"| `{self.name}{labels}` | {self.kind} | PROCESSES | {self.meaning} |"


@cache
def read_declared() -> dict[str, Shown]:
    """The metrics that the code makes, by name."""
    found: dict[str, Shown] = {}
    for path in sorted((*ROOT.glob("services/**/*.py"), *ROOT.glob("shared/**/*.py"))):
        text = path.read_text()
        if "prometheus_client" in text:
            for metric in _find_made(ast.parse(text)):
                assert metric.name not in found, f"{metric.name} is made twice"
                found[metric.name] = metric
    return found


def _find_made(tree: ast.Module) -> Iterator[Shown]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        maker = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if maker not in _KINDS or len(node.args) < 2 or not isinstance(node.args[0], ast.Constant):
            continue
        # A metric without a meaning is a part of another one.
        name, meaning, *rest = map(ast.literal_eval, node.args[:3])
        if not meaning:
            continue
        kind = _KINDS[maker] or {"unknown": "untyped"}.get(rest[0], rest[0])
        labels = tuple(rest[0]) if maker != "Metric" and rest else ()
        yield Shown(name.removesuffix("_total") + ("_total" if kind == "counter" else ""), kind, labels, meaning)


def read_page() -> dict[str, tuple[Shown, tuple[str, ...]]]:
    """The rows of docs/monitoring.md, by name: the metric, and the processes that have it."""
    rows = [Shown(name, kind, tuple(filter(None, labels.split(","))), meaning) for name, labels, kind, _, meaning in _find_rows()]
    processes = [tuple(named.split(", ")) for _, _, _, named, _ in _find_rows()]
    names = [row.name for row in rows]
    assert len(set(names)) == len(names), "a metric stands twice in docs/monitoring.md"
    return {row.name: (row, named) for row, named in zip(rows, processes, strict=True)}


def _find_rows() -> list[tuple[str, str, str, str, str]]:
    return _ROW.findall(PAGE.read_text())


def read_alerts() -> dict[str, str]:
    """The alerts' expressions, by name."""
    found = re.findall(r"- alert: (\w+)\n +expr: (\|\n(?: {10}.*\n)+|.+\n)", ALERTS.read_text())
    return {name: expression.removeprefix("|\n") for name, expression in found}


def read_expressions() -> list[str]:
    """What the dashboard's panels ask, with Grafana's variables filled in as Grafana would."""
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked += [one["expr"] for one in dashboard["annotations"]["list"]]
    return [_fill_in(expression) for expression in asked]


def _fill_in(expression: str) -> str:
    for name, value in {"$__rate_interval": "1m", "$instance": ".*", "$vhost": ".*"}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def find_names(expression: str) -> set[str]:
    """The metrics that a PromQL expression names."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    return {word for word in re.findall(r"\b[a-zA-Z_]\w*\b(?!\s*\()", bare) if word not in _WORDS}


def find_patterns(expression: str) -> list[str]:
    """The names that it asks for as a pattern."""
    return re.findall(r'__name__=~"([^"]*)"', expression)


def fetch(address: str, path: str = "/metrics") -> str:
    """The metrics of ``host:port``."""
    answer = httpx.get(f"http://{address}{path}", timeout=10)
    assert answer.status_code == 200
    return answer.text


def read_shown(text: str) -> dict[str, Shown]:
    """The metrics of a scrape, by name; the labels are those of its samples."""
    meanings = dict(re.findall(r"^# HELP (\w+) ?(.*)$", text, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    labels: dict[str, set[str]] = {name: set() for name in kinds}
    for sample, given in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        name = sample if sample in kinds else re.sub("_(bucket|sum|count)$", "", sample)
        labels[name] |= set(re.findall(r'(\w+)="', given)) - {"le"}
    return {name: Shown(name, kind, tuple(sorted(labels[name])), meanings[name]) for name, kind in kinds.items()}


def list_series(shown: dict[str, Shown]) -> set[str]:
    """The names that can be asked for."""
    parts = ("_bucket", "_sum", "_count")
    return {name + part for name, one in shown.items() for part in (parts if one.kind == "histogram" else ("",))}


if __name__ == "__main__":
    for one in sorted(read_declared().values(), key=lambda one: one.name):
        print(one.render())
