"""What the rounds say together: medians, ratios, bars; as JSON and as tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.memory import Footprint
from tests.bench.plan import WAYS
from tests.bench.rounds import GROUPS, LOGS, OURS, POSTFIX, SERVERS, Round

MB = 1_000_000
_MOST_STRANGE = 0.15
"""The kernel's own threads have about 5 %."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One way with one size: medians over the rounds that count; peaks of memory over all."""

    way: str
    size: int
    messages: int
    rounds: int
    accepted: float
    delivered: float
    slowest: float
    fastest: float
    recorded: float | None
    ratio: float | None
    """``delivered`` over Postfix's."""
    cpu: Mapping[str, float]
    machine: float
    strange: float
    """The largest share of CPU that strangers had in a round."""
    memory: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that must be reached."""

    what: str
    wanted: str
    measured: str
    is_met: bool


def summarize(rounds: Sequence[Round]) -> list[Figure]:
    """A figure for each way and size of which a round counts; warm-ups do not."""
    kinds: dict[tuple[str, int], list[Round]] = {}
    for one in rounds:
        if one.job.round and not one.faults:
            kinds.setdefault((one.job.way, one.job.size), []).append(one)
    postfix = {size: median(one.delivered for one in some) for (way, size), some in kinds.items() if way == "c"}
    return [_summarize(some, postfix.get(size)) for (_, size), some in sorted(kinds.items(), key=lambda kind: kind[0][::-1])]


def _summarize(rounds: Sequence[Round], postfix: float | None) -> Figure:
    job = rounds[0].job
    rates = [one.delivered for one in rounds]
    recorded = [one.recorded for one in rounds if one.recorded is not None]
    groups = [name for name in GROUPS if any(name in one.cpu for one in rounds)]
    return Figure(
        way=job.way,
        size=job.size,
        messages=job.messages,
        rounds=len(rounds),
        accepted=median(one.accepted for one in rounds),
        delivered=median(rates),
        slowest=min(rates),
        fastest=max(rates),
        recorded=median(recorded) if recorded else None,
        ratio=median(rates) / postfix if postfix else None,
        cpu={name: median(one.cpu.get(name, 0.0) for one in rounds) for name in groups},
        machine=median(one.machine for one in rounds),
        strange=max(one.strange for one in rounds),
        memory={name: max(one.memory.get(name, 0) for one in rounds) for name in groups},
    )


def check_bars(figures: Sequence[Figure], footprint: Footprint | None) -> list[Bar]:
    """The bars, as far as they were measured."""
    bars = []
    for way, least in (("a", 0.5), ("b", 1.0)):
        for figure in figures:
            if (figure.way, figure.size) == (way, 5) and figure.ratio is not None:
                what = f"({way}) {WAYS[way]}, 5 KB, messages/s over Postfix's"
                bars.append(Bar(what, f"≥ {least}", f"{figure.ratio:.2f}", figure.ratio >= least))
    if footprint is not None:
        for what, octets, most in (
            ("idle memory of a process", footprint.idle, 90),
            ("growth of a process while a mail of 20 MB goes through", footprint.growth, 100),
        ):
            name, largest = max(octets.items(), key=lambda item: item[1])
            is_met = largest < most * MB and not footprint.faults
            bars.append(Bar(what, f"< {most} MB", f"at most {largest / MB:.0f} MB ({name})", is_met))
    return bars


def render_json(
    machine: Mapping[str, str], options: Mapping[str, Any], rounds: Sequence[Round], footprint: Footprint | None
) -> Any:
    """Everything, as plain values."""
    figures = summarize(rounds)
    return {
        "machine": dict(machine),
        "options": dict(options),
        "figures": [asdict(figure) for figure in figures],
        "memory": asdict(footprint) if footprint else None,
        "bars": [asdict(bar) for bar in check_bars(figures, footprint)],
        "rounds": [asdict(one) for one in rounds if one.job.round],
    }


def print_report(console: Console, machine: Mapping[str, str], rounds: Sequence[Round], footprint: Footprint | None) -> None:
    """All tables."""
    figures = summarize(rounds)
    console.print(_rates(figures))
    console.print(_by_process("CPU, µs per message (user and system)", figures, _cpu_cells))
    console.print(_by_process("Peak memory, MB", figures, _memory_cells))
    if footprint is not None:
        console.print(_footprint(footprint))
    console.print("\n".join(f"{name}: {value}" for name, value in machine.items()), markup=False, highlight=False)
    for bar in check_bars(figures, footprint):
        console.print(f"{'yes' if bar.is_met else 'NO '}  {bar.what}: {bar.measured} (bar: {bar.wanted})", markup=False)
    strange = max((one.strange for one in figures), default=0.0)
    if strange > _MOST_STRANGE:
        console.print(
            f"CAUTION: something else used up to {strange:.0%} of the CPU: repeat this on a quiet machine", markup=False
        )
    faults = [f"{one.job.title}: {fault}" for one in rounds for fault in one.faults]
    faults += [f"the mail of 20 MB: {fault}" for fault in footprint.faults] if footprint else []
    for fault in faults:
        console.print(f"DOES NOT COUNT: {fault}", markup=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _rates(figures: Sequence[Figure]) -> Table:
    columns = ("size", "messages/s", "slowest–fastest", "× Postfix", "accepted/s", "recorded/s", "messages", "rounds")
    table = _table("Messages per second, from the first handed in to the last in the sink (medians)", "way", *columns)
    for one in figures:
        table.add_row(
            f"({one.way}) {WAYS[one.way]}",
            f"{one.size} KB",
            f"{one.delivered:,.0f}",
            f"{one.slowest:,.0f}–{one.fastest:,.0f}",
            f"{one.ratio:.2f}" if one.ratio else "–",
            f"{one.accepted:,.0f}",
            f"{one.recorded:,.0f}" if one.recorded else "–",
            f"{one.messages:,}",
            str(one.rounds),
        )
    return table


def _by_process(title: str, figures: Sequence[Figure], cells: Callable[[Figure, str], str]) -> Table:
    table = _table(title, "process", *(f"({one.way}) {one.size} KB" for one in figures))
    for name in GROUPS:
        row = [cells(one, name) for one in figures]
        if any(row):
            table.add_row(name, *row)
    if cells is _cpu_cells:
        table.add_section()
        table.add_row("all of these", *(f"{sum(one.cpu.values()):,.0f}" for one in figures))
        table.add_row("the whole machine", *(f"{one.machine:,.0f}" for one in figures))
    return table


def _cpu_cells(figure: Figure, name: str) -> str:
    return f"{figure.cpu[name]:,.0f}" if figure.cpu.get(name, 0.0) >= 0.5 else ""


def _memory_cells(figure: Figure, name: str) -> str:
    is_idle = name in (*OURS, *SERVERS, LOGS) if figure.way == "c" else name == POSTFIX
    return f"{figure.memory[name] / MB:,.0f}" if figure.memory.get(name) and not is_idle else ""


def _footprint(footprint: Footprint) -> Table:
    table = _table("Memory of our processes, MB", "process", "idle", "growth while a mail of 20 MB goes through")
    for name in OURS:
        table.add_row(name, f"{footprint.idle[name] / MB:.0f}", f"{footprint.growth[name] / MB:.0f}")
    return table
