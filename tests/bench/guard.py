"""Have we become slower? A few rounds of (a), (b), (c) and (h), compared with what docs/bench.json has recorded.

    make bench-guard                                    three rounds
    python -m tests.bench.guard --rounds 5 --allow 10   more of them, and less patience

What is compared are ratios: ours over Postfix's, and (b) over Celery's, each measured in the same run. So it does not matter that a
machine is slower than the one of the record. Exit code 0: no ratio is more than 15 % below the recorded one; 1: one is, and a line
for each tells what, how much and by how much, or a round does not count; 2: it could not be compared, and one line tells why.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.stack.places import ROOT, StackError
from deploy.stack.services import parse_scale
from tests.bench.figures import Figure, Measured, summarize
from tests.bench.opening import open_stage
from tests.bench.plan import CELERY, SCALE, SIZES, Job, make_plan
from tests.bench.series import run_series

RECORD = ROOT / "docs" / "bench.json"
ALLOWED = 15.0
"""Percent that a ratio may fall below the recorded one."""
_KINDS = {("a", 5), ("b", 5), ("c", 5), (CELERY, 5), ("a", 100), ("c", 100)}
"""Way and KB of what is run."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A ratio that must not fall."""

    what: str
    way: str
    size: int
    """KB."""
    field: str
    """Of a Figure, and of the document."""


WATCHED = (
    Watched("(a) 5 KB over Postfix", "a", 5, "ratio"),
    Watched("(b) 5 KB over Postfix", "b", 5, "ratio"),
    Watched("(b) 5 KB over Celery", "b", 5, "over_celery"),
    Watched("(a) 100 KB over Postfix", "a", 100, "ratio"),
)


class NotComparable(Exception):
    """The record is no help; the text says why."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One ratio, then and now."""

    what: str
    recorded: float
    now: float | None
    """None: not measured, no round counts."""
    allowed: float
    """Percent."""

    @property
    def change(self) -> float | None:
        """Percent, below 0 when it fell."""
        return (self.now / self.recorded - 1) * 100 if self.now is not None else None

    @property
    def is_fine(self) -> bool:
        """Whether it did not fall by more than is allowed."""
        return self.now is not None and self.now >= self.recorded * (1 - self.allowed / 100)

    @property
    def complaint(self) -> str:
        """A line: what, recorded, now, by how much."""
        if self.change is None:
            return f"{self.what}: {self.recorded:.2f} recorded, not measured now: no round counts"
        return f"{self.what}: {self.recorded:.2f} recorded, {self.now:.2f} now: {-self.change:.0f} % less ({self.allowed:.0f} % allowed)"


def read_record(path: Path) -> dict[Watched, float]:
    """The recorded ratios. Raises NotComparable when the file cannot be read or lacks one."""
    try:
        document = json.loads(path.read_bytes())
        figures = {(one["way"], one["size"]): one for one in document["figures"]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise NotComparable(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    return {watched: _find_ratio(path, figures, watched) for watched in WATCHED}


def _find_ratio(path: Path, figures: Mapping[tuple[str, int], Mapping[str, Any]], watched: Watched) -> float:
    ratio = figures.get((watched.way, watched.size), {}).get(watched.field)
    if not isinstance(ratio, int | float) or ratio <= 0:
        raise NotComparable(f'{path} has no figure of {watched.what}: `make bench ARGS="--only a,b,c,{CELERY} --save"` makes it')
    return float(ratio)


def compare(record: Mapping[Watched, float], figures: Sequence[Figure], allowed: float = ALLOWED) -> list[Comparison]:
    """Every recorded ratio with that of today. ``allowed``: percent that it may be lower. Pure."""
    today = {(figure.way, figure.size): figure for figure in figures}
    return [
        Comparison(watched.what, ratio, getattr(today.get((watched.way, watched.size)), watched.field, None), allowed)
        for watched, ratio in record.items()
    ]


def make_jobs(rounds: int) -> list[Job]:
    """The rounds of the bench that are needed, in its order."""
    return [job for job in make_plan(["a", "b", "c", CELERY], SIZES, rounds, quick=False) if (job.way, job.size) in _KINDS]


def _render(comparisons: Sequence[Comparison]) -> Table:
    table = Table(title="Ratios, recorded and now", title_justify="left")
    for number, column in enumerate(("what", "recorded", "now", "change", "")):
        table.add_column(column, justify="right" if number else "left")
    for one in comparisons:
        now = f"{one.now:.2f}" if one.now is not None else "–"
        change = f"{one.change:+.0f} %" if one.change is not None else "–"
        table.add_row(one.what, f"{one.recorded:.2f}", now, change, "" if one.is_fine else "TOO LOW")
    return table


def _read_arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.bench.guard", description=__doc__, formatter_class=form)
    parser.add_argument("--rounds", type=int, default=3, help="of each way and size; medians are compared (default: 3)")
    parser.add_argument("--allow", type=float, default=ALLOWED, metavar="PERCENT", help=f"default: {ALLOWED:.0f}")
    parser.add_argument("--record", type=Path, default=RECORD, metavar="FILE", help="default: docs/bench.json")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds: expected at least 1")
    if not 0 <= given.allow < 100:
        parser.error("--allow: expected 0 to 100 percent")
    return given


def _measure(rounds: int, say: Any) -> Measured:
    with open_stage(["a", "b", "c", CELERY], {}, parse_scale(SCALE), say) as stage:
        return Measured(run_series(make_jobs(rounds), stage))


def main() -> int:
    """Measure, compare, tell."""
    given = _read_arguments()
    try:
        record = read_record(given.record)
    except NotComparable as error:
        print(error, file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("Postfix must be started by root: run this as root", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    console = Console(width=None if sys.stdout.isatty() else 120)
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"{time.monotonic() - began:5.0f} s  {line}", markup=False, highlight=False)

    try:
        measured = _measure(given.rounds, say)
    except (StackError, KeyboardInterrupt) as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return 2
    comparisons = compare(record, summarize(measured.rounds), given.allow)
    complaints = [one.complaint for one in comparisons if not one.is_fine]
    complaints += [f"DOES NOT COUNT: {fault}" for fault in measured.find_faults()]
    console.print(_render(comparisons))
    for complaint in complaints:
        console.print(complaint, markup=False, highlight=False)
    return 1 if complaints else 0


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
