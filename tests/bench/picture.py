"""The picture: messages per second and CPU per message, side by side; below, the bars that the figures must reach."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "mailwarren"  # the same figures make the same file

from matplotlib import pyplot  # noqa: E402 - the back-end is chosen before
from matplotlib.axes import Axes  # noqa: E402

_SHORT = {"a": "SMTP in", "b": "JSON in", "c": "Postfix", "d": "signed", "h": "Celery"}
_RATE_COLORS = {"a": "#1f6f8b", "b": "#3fa7a0", "c": "#9a9a9a", "d": "#5b7db1", "h": "#6f6f6f"}
_CROWD_COLORS = {False: "#86cfc0", True: "#e8871e"}
"""Without and with a tarpit."""
_PART_COLORS = {
    "smtp-inbox": "#0f4c5c",
    "router": "#1f6f8b",
    "smtp-sender": "#3fa7a0",
    "result-recorder": "#86cfc0",
    "logs (supervisord)": "#c9e8de",
    "rabbitmq": "#e8871e",
    "postgres": "#5b7db1",
    "postfix": "#9a9a9a",
    "celery": "#6f6f6f",
    "sink": "#d8c3a5",
    "load generator": "#eadfca",
    "others": "#f3eee4",
}
_LEAST_SHARE = 0.015
"""Of the highest column; what is smaller is drawn together as ``others``."""


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Write the picture of ``report.render_json``'s document as SVG."""
    figures = result["figures"]
    canvas, (left, right) = pyplot.subplots(1, 2, figsize=(15, 6.4), width_ratios=[1.25, 1.25], layout="constrained")
    _draw_rates(left, figures, result["domains"])
    _draw_cpu(right, figures)
    machine = result["machine"]
    versions = ", ".join(
        f"{name} {machine[name.lower()].split()[0]}" for name in ("RabbitMQ", "Postgres", "Postfix") if name.lower() in machine
    )
    canvas.suptitle(f"{machine['cpu']}, {machine['memory']}; {versions}; Python {machine['python']}", fontsize=9, color="#555555")
    lines = [
        f"{bar['what']}: {bar['measured']} ({bar['wanted']}{'' if bar['is_met'] else ', NOT met'})" for bar in result["bars"]
    ]
    canvas.supxlabel("\n".join(lines), fontsize=8, color="#555555")
    canvas.savefig(file, metadata={"Date": None})
    pyplot.close(canvas)


def _labels(figures: list[dict[str, Any]]) -> list[str]:
    return [f"({one['way']}) {_SHORT[one['way']]}\n{one['size']} KB" for one in figures]


def _draw_rates(axes: Axes, figures: list[dict[str, Any]], crowds: list[dict[str, Any]]) -> None:
    rates = [one["delivered"] for one in figures]
    spread = [[one["delivered"] - one["slowest"] for one in figures], [one["fastest"] - one["delivered"] for one in figures]]
    bars = axes.bar(
        _labels(figures), rates, color=[_RATE_COLORS[one["way"]] for one in figures], yerr=spread, ecolor="#444444", capsize=3
    )
    words = [f"{one['delivered']:,.0f}" + (f"\n{one['ratio']:.2f} ×" if one["ratio"] else "") for one in figures]
    axes.bar_label(bars, words, padding=4, fontsize=9)
    for crowd in (one["crowd"] | {"rate": one["rate"]} for one in crowds):
        label = f"(e) {crowd['domains']:,}\n{'tarpit' if crowd['has_tarpit'] else 'domains'} {crowd['turn']}"
        columns = axes.bar([label], [crowd["rate"]], color=_CROWD_COLORS[crowd["has_tarpit"]])
        axes.bar_label(columns, [f"{crowd['rate']:,.0f}"], padding=4, fontsize=9)
    axes.margins(y=0.15)
    axes.set_title("messages per second, end to end (× Postfix)", fontsize=11)
    _tidy(axes)


def _draw_cpu(axes: Axes, figures: list[dict[str, Any]]) -> None:
    labels = _labels(figures)
    highest = max(sum(one["cpu"].values()) for one in figures)
    names = list(dict.fromkeys(name for one in figures for name in one["cpu"]))
    drawn = [name for name in names if max(one["cpu"].get(name, 0.0) for one in figures) >= _LEAST_SHARE * highest]
    parts = {name: [one["cpu"].get(name, 0.0) for one in figures] for name in drawn}
    parts["others"] = [sum(µs for name, µs in one["cpu"].items() if name not in drawn) for one in figures]
    floor = [0.0] * len(figures)
    for name, heights in parts.items():
        axes.bar(labels, heights, bottom=floor, label=name, color=_PART_COLORS.get(name, "#b56576"))
        floor = [below + height for below, height in zip(floor, heights, strict=True)]
    for position, total in enumerate(floor):
        axes.text(position, total, f"{total:,.0f}", ha="center", va="bottom", fontsize=9)
    axes.margins(y=0.08)
    axes.set_title("CPU per message, µs", fontsize=11)
    handles, told = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], told[::-1], fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.tick_params(axis="x", labelsize=8, length=0)
    axes.spines[["top", "right"]].set_visible(False)
