"""The figures as Markdown, for the README."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.accepting import KINDS
from tests.bench.backlog import SMALL
from tests.bench.plan import WAYS
from tests.bench.scaling import KINDS as SCALED_KINDS

_NAMES = {"rabbitmq": "RabbitMQ", "postgres": "Postgres", "postfix": "Postfix", "python": "Python"}


def render_markdown(result: Mapping[str, Any]) -> str:
    """A line about the machine, and tables, from ``report.render_json``'s document."""
    figures, machine = result["figures"], result["machine"]
    versions = ", ".join(f"{name} {machine[key].split()[0]}" for key, name in _NAMES.items() if key in machine)
    parts = [
        f"{machine['cpu']}, {machine['memory']}, {machine['disk'].split()[0]}; {machine['system']}; {versions}.",
        f"Medians of {result['options']['rounds']} rounds, {result['options']['made'][:10]}.",
        "",
        *_render_table(
            ["way", "size", "messages/s", "× Postfix", "× Celery", "CPU per message", "sessions reused"],
            [_rate_row(one) for one in figures],
        ),
    ]
    if result["domains"]:
        columns = ["queued before smtp-sender starts", "mails", "messages/s of the domains that are well", "sessions reused"]
        parts += ["", *_render_table(columns, [_crowd_row(one) for one in result["domains"]])]
    if accepting := result.get("accepting"):
        columns = ["accepted (250 or 202), nothing behind the inboxes", "size", "messages/s", "Postfix", "× Postfix"]
        parts += ["", *_render_table(columns, [_accept_row(one) for one in accepting])]
    if pacing := result.get("pacing"):
        columns = ["SMTP at half load, from 250 to the sink", "p50", "p90", "p99", "longest"]
        parts += ["", *_render_table(columns, [_paced_row(one) for one in pacing if not one["faults"]])]
    if scaling := result.get("scaling"):
        columns = ["a backlog, 5 KB each", "smtp-sender's share of the CPU", "messages/s of one", "of two", "two over one"]
        parts += ["", *_render_table(columns, [_scaling_row(one) for one in scaling if one["ratio"]])]
    if backlog := result.get("backlog"):
        parts += ["", *_render_backlog(backlog)]
    if memory := result["memory"]:
        rows = [[name, _mb(memory["idle"][name]), _mb(memory["growth"][name])] for name in memory["idle"]]
        parts += ["", *_render_table(["process", "idle memory", "growth while a mail of 20 MB goes through"], rows)]
    if result["bars"]:
        rows = [[bar["what"], bar["wanted"], bar["measured"], "yes" if bar["is_met"] else "**no**"] for bar in result["bars"]]
        parts += ["", *_render_table(["bar", "wanted", "measured", "met"], rows)]
    return "\n".join([*parts, ""])


def _rate_row(figure: Mapping[str, Any]) -> list[str]:
    ratio = f"{figure['ratio']:.2f}" if figure["ratio"] else "–"
    total = sum(figure["cpu"].values()) / 1000
    return [
        WAYS[figure["way"]],
        f"{figure['size']} KB",
        f"{figure['delivered']:,.0f}",
        ratio,
        f"{figure['over_celery']:.2f}" if figure["over_celery"] else "–",
        f"{total:.1f} ms",
        _share(figure["reused"]),
    ]


def _crowd_row(result: Mapping[str, Any]) -> list[str]:
    crowd = result["crowd"]
    name = f"{crowd['domains']:,} domains, {'one with a tarpit' if crowd['has_tarpit'] else 'all well'}"
    return [name, f"{crowd['messages']:,}", f"{result['rate']:,.0f}", _share(result["reused"])]


def _accept_row(result: Mapping[str, Any]) -> list[str]:
    other, ratio = (f"{result['postfix']:,.0f}", f"{result['ratio']:.2f}") if result["postfix"] else ("–", "–")
    return [KINDS[result["kind"]], f"{result['size'] // 1000} KB", f"{result['rate']:,.0f}", other, ratio]


def _paced_row(result: Mapping[str, Any]) -> list[str]:
    times = [f"{result[name] * 1e3:.1f} ms" for name in ("p50", "p90", "p99", "longest")]
    return [f"{result['rate']:,.0f} of {result['full']:,.0f} messages/s", *times]


def _scaling_row(result: Mapping[str, Any]) -> list[str]:
    rates = [f"{rate:,.0f}" for rate in result["rates"].values()]
    return [SCALED_KINDS[result["kind"]].what, _share(result["share"]), *rates, f"{result['ratio']:.2f}"]


def _render_backlog(result: Mapping[str, Any]) -> list[str]:
    columns = ["mails of 5 KB in outbox", "messages/s", "in the first tenth", "in the last tenth"]
    columns += [f"memory of {name}, second tenth → last quarter" for name in result["memory"]]
    memory = [f"{_mb(growth['early'])} → {_mb(growth['late'])}" for growth in result["memory"].values()]
    peaks = [_mb(growth["small"]) for growth in result["memory"].values()]
    large = [f"{result['messages']:,}", *(f"{result[name]:,.0f}" for name in ("rate", "first", "last")), *memory]
    return _render_table(columns, [[f"{SMALL:,}", f"{result['small_rate']:,.0f}", "–", "–", *peaks], large])


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _mb(octets: int) -> str:
    return f"{octets / 1e6:.0f} MB"


def _render_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rules = ["---", *["--:"] * (len(columns) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (columns, rules, *rows)]
