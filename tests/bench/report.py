"""The report of a run: as JSON and as tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.accepting import KINDS, AcceptResult
from tests.bench.archiving import ArchivingResult
from tests.bench.backlog import SMALL, BacklogResult
from tests.bench.bars import check_bars
from tests.bench.domains import CrowdResult
from tests.bench.figures import MB, Figure, Measured, summarize
from tests.bench.memory import Footprint
from tests.bench.pacing import PacedResult
from tests.bench.plan import CELERY, WAYS
from tests.bench.recording import KINDS as RECORDED_KINDS
from tests.bench.recording import RecordingResult
from tests.bench.rounds import GROUPS, LOGS, OURS, POSTFIX, SERVERS, WORKERS
from tests.bench.scaling import COPIES, ScalingResult
from tests.bench.scaling import KINDS as SCALED_KINDS

_MOST_STRANGE = 0.15
"""The kernel's own threads have about 5 %."""


def render_json(machine: Mapping[str, str], options: Mapping[str, Any], measured: Measured) -> Any:
    """Everything, as plain values."""
    figures = summarize(measured.rounds)
    return {
        "machine": dict(machine),
        "options": dict(options),
        "figures": [asdict(figure) for figure in figures],
        "domains": [asdict(crowd) for crowd in measured.crowds],
        "accepting": [{**asdict(result), "ratio": result.ratio} for result in measured.accepting],
        "recording": [asdict(result) for result in measured.recording],
        "archiving": [asdict(result) for result in measured.archiving],
        "pacing": [asdict(result) for result in measured.pacing],
        "scaling": [{**asdict(result), "ratio": result.ratio, "share": result.share} for result in measured.scaling],
        "backlog": {**asdict(measured.backlog), "ratio": measured.backlog.ratio} if measured.backlog else None,
        "heavy": [asdict(peak) for peak in measured.heavy],
        "memory": asdict(measured.footprint) if measured.footprint else None,
        "loaded": asdict(measured.loaded) if measured.loaded else None,
        "bars": [asdict(bar) for bar in check_bars(figures, measured)],
        "rounds": [asdict(one) for one in measured.rounds if one.job.round],
    }


def print_report(console: Console, machine: Mapping[str, str], measured: Measured) -> None:
    """All tables, then every bar, then what does not count."""
    figures = summarize(measured.rounds)
    for table in _tables(figures, measured):
        console.print(table)
    console.print("\n".join(f"{name}: {value}" for name, value in machine.items()), markup=False, highlight=False)
    for bar in check_bars(figures, measured):
        console.print(f"{'yes' if bar.is_met else 'NO '}  {bar.what}: {bar.verdict}", markup=False)
    strange = max((one.strange for one in figures), default=0.0)
    if strange > _MOST_STRANGE:
        console.print(
            f"CAUTION: something else used up to {strange:.0%} of the CPU: repeat this on a quiet machine", markup=False
        )
    for fault in measured.find_faults():
        console.print(f"DOES NOT COUNT: {fault}", markup=False)


def _tables(figures: Sequence[Figure], measured: Measured) -> Iterator[Table]:
    if figures:
        yield _rates(figures)
        yield _by_process("CPU, µs per message (user and system)", figures, _cpu_cells)
        yield _by_process("Peak memory, MB", figures, _memory_cells)
    several: Sequence[tuple[Sequence[Any], Callable[[Any], Table]]] = (
        (measured.crowds, _crowds),
        (measured.accepting, _accepting),
        (measured.recording, _recording),
        (measured.archiving, _archiving),
        (measured.pacing, _pacing),
        (measured.scaling, _scaling),
    )
    yield from (render(results) for results, render in several if results)
    if measured.backlog is not None:
        yield _backlog(measured.backlog)
    if measured.footprint is not None:
        yield _footprint(measured.footprint)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _rates(figures: Sequence[Figure]) -> Table:
    columns = (
        "size",
        "messages/s",
        "slowest–fastest",
        "× Postfix",
        "× (b)",
        "× Celery",
        "reused",
        "accepted/s",
        "recorded/s",
        "messages",
    )
    table = _table(
        f"Messages per second, from the first handed in to the last in the sink (medians of {figures[0].rounds}); sessions reused",
        "way",
        *columns,
    )
    for one in figures:
        table.add_row(
            f"({one.way}) {WAYS[one.way]}",
            f"{one.size} KB",
            f"{one.delivered:,.0f}",
            f"{one.slowest:,.0f}–{one.fastest:,.0f}",
            f"{one.ratio:.2f}" if one.ratio else "–",
            f"{one.over_unsigned:.2f}" if one.over_unsigned else "",
            f"{one.over_celery:.2f}" if one.over_celery else "",
            f"{one.reused:.1%}" if one.reused is not None else "–",
            f"{one.accepted:,.0f}",
            f"{one.recorded:,.0f}" if one.recorded else "–",
            f"{one.messages:,}",
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
    others = {"c": (*OURS, *SERVERS, LOGS, WORKERS), CELERY: (*OURS, POSTFIX)}
    is_idle = name in others.get(figure.way, (POSTFIX, WORKERS))
    return f"{figure.memory[name] / MB:,.0f}" if figure.memory.get(name) and not is_idle else ""


def _accepting(results: Sequence[AcceptResult]) -> Table:
    table = _table(
        "Mail accepted, nothing behind the inboxes", "way", "messages/s", "Postfix", "× Postfix", "messages", "KB each"
    )
    for one in results:
        other, ratio = (f"{one.postfix:,.0f}" if one.postfix else "–"), (f"{one.ratio:.2f}" if one.ratio else "–")
        table.add_row(KINDS[one.kind], f"{one.rate:,.0f}", other, ratio, f"{one.messages:,}", f"{one.size // 1000}")
    return table


def _recording(results: Sequence[RecordingResult]) -> Table:
    columns = ("results", "results/s", "first tenth", "last tenth", "peak, MB", "cleaned up after, s", "CPU, µs per result")
    table = _table("A backlog of records, until the last row was committed", "way", *columns)
    for one in results:
        used = ", ".join(f"{name} {cost:.0f}" for name, cost in one.cpu.items() if name in ("result-recorder", *SERVERS))
        cleaned = "–" if one.cleaned is None else f"{one.cleaned:.1f}"
        rates = (f"{rate:,.0f}" for rate in (one.rate, one.first, one.last))
        table.add_row(RECORDED_KINDS[one.kind], f"{one.results:,}", *rates, f"{one.memory / MB:.0f}", cleaned, used)
    return table


def _archiving(results: Sequence[ArchivingResult]) -> Table:
    table = _table("Old verdicts, until the last one was in the archive", "rows", "octets of results in each", "rows/s")
    for one in results:
        table.add_row(f"{one.rows:,}", f"{one.octets:,}", f"{one.rate:,.0f}")
    return table


def _pacing(results: Sequence[PacedResult]) -> Table:
    columns = ("of", "mails", "p50, ms", "p90", "p99", "longest", "there before the 250")
    table = _table("SMTP at half load: from 250 to the sink", "mails/s", *columns)
    for one in results:
        times = (f"{seconds * 1e3:,.1f}" for seconds in (one.p50, one.p90, one.p99, one.longest))
        table.add_row(f"{one.rate:,.0f}", f"{one.full:,.0f}", f"{one.messages:,}", *times, f"{one.ahead:,}")
    return table


def _scaling(results: Sequence[ScalingResult]) -> Table:
    columns = [*(f"messages/s, {copies}" for copies in COPIES), "2 over 1", *(f"core busy, {copies}" for copies in COPIES)]
    columns += ["share of all CPU, 1", "messages"]
    table = _table("A backlog for one smtp-sender and for two; how busy each keeps a core", "mail", *columns)
    for one in results:
        rates = (f"{one.rates.get(copies, 0.0):,.0f}" for copies in COPIES)
        busy = (f"{one.busy.get(copies, 0.0):.0%}" for copies in COPIES)
        ratio, share = (f"{one.ratio:.2f}" if one.ratio else "–"), (f"{one.share:.0%}" if one.share else "–")
        table.add_row(SCALED_KINDS[one.kind].what, *rates, ratio, *busy, share, f"{one.messages:,}")
    return table


def _backlog(result: BacklogResult) -> Table:
    rates = f"{result.rate:,.0f}/s, first tenth {result.first:,.0f}/s, last tenth {result.last:,.0f}/s"
    title = f"{result.messages:,} mails in outbox: {rates}; with {SMALL:,}: {result.small_rate:,.0f}/s. Memory, MB at the peak"
    table = _table(title, "process", f"with {SMALL:,}", "first tenth", "second tenth", "last quarter", "over second tenth")
    for name, growth in result.memory.items():
        peaks = (f"{octets / MB:.0f}" for octets in (growth.small, growth.first, growth.early, growth.late))
        table.add_row(name, *peaks, f"{growth.ratio:.2f}")
    return table


def _footprint(footprint: Footprint) -> Table:
    table = _table("Memory of our processes, MB", "process", "idle", "growth while a mail of 20 MB goes through")
    for name in OURS:
        table.add_row(name, f"{footprint.idle[name] / MB:.0f}", f"{footprint.growth[name] / MB:.0f}")
    return table


def _crowds(crowds: Sequence[CrowdResult]) -> Table:
    columns = ("messages/s of the others", "mails to them", "reused", "peak of smtp-sender, MB", "caught in the tarpit")
    table = _table("Many domains, everything queued before smtp-sender starts", "way", *columns)
    for one in crowds:
        table.add_row(
            one.crowd.title,
            f"{one.rate:,.0f}",
            f"{one.others:,}",
            f"{one.reused:.1%}" if one.reused is not None else "–",
            f"{one.memory / MB:,.0f}",
            f"{one.caught}" if one.crowd.has_tarpit else "–",
        )
    return table
