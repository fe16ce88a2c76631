"""The figures as Markdown, for the README."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.accepting import KINDS
from tests.bench.plan import WAYS

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
            ["way", "size", "messages/s", "× Postfix", "CPU per message", "sessions reused"], [_rate_row(one) for one in figures]
        ),
    ]
    if result["domains"]:
        columns = ["queued before smtp-sender starts", "mails", "messages/s of the domains that are well", "sessions reused"]
        parts += ["", *_render_table(columns, [_crowd_row(one) for one in result["domains"]])]
    if accepting := result.get("accepting"):
        columns = ["accepted (250 or 202), nothing behind the inboxes", "size", "messages/s", "Postfix", "× Postfix"]
        parts += ["", *_render_table(columns, [_accept_row(one) for one in accepting])]
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


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _mb(octets: int) -> str:
    return f"{octets / 1e6:.0f} MB"


def _render_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rules = ["---", *["--:"] * (len(columns) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (columns, rules, *rows)]
