"""``python -m tests.bench``: what ``make bench`` calls."""

import argparse
import json
import os
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from deploy.stack.places import ROOT, StackError
from deploy.stack.services import parse_scale
from tests.bench import load, machine, postfix, report
from tests.bench.accepting import measure_accepting
from tests.bench.archiving import ROWS, ArchivingResult, measure_archiving
from tests.bench.backlog import MESSAGES, SMALL, BacklogResult, check_room, measure_backlog
from tests.bench.domains import CrowdResult, measure_crowd
from tests.bench.figures import Measured
from tests.bench.markdown import render_markdown
from tests.bench.memory import LoadedPeak, measure_heavy, measure_loaded, measure_memory
from tests.bench.opening import open_stage
from tests.bench.pacing import PacedResult, measure_pacing
from tests.bench.plan import (
    ACCEPTING,
    BACKLOG,
    CELERY,
    MANY,
    NOT_BY_DEFAULT,
    OUR_WAYS,
    PACED,
    RECORDING,
    SCALE,
    SCALING,
    SIZES,
    WAYS,
    make_crowds,
    make_plan,
)
from tests.bench.recording import measure_recording
from tests.bench.rounds import Round, Stage
from tests.bench.scaling import ScalingResult, measure_scaling
from tests.bench.series import run_series

_FOLDER = ROOT / ".run" / "bench"
_DOCS = ROOT / "docs"


def _read_arguments() -> argparse.Namespace:
    import tests.bench

    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=tests.bench.__doc__, formatter_class=form)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="rounds of each way and size; medians are shown (default: 3)")
    add("--quick", action="store_true", help="one round, a fifth of the messages, a tenth in (e), half in (j)")
    usual = ",".join(way for way in WAYS if way not in NOT_BY_DEFAULT)
    add(
        "--only",
        default=usual,
        metavar=",".join(WAYS),
        help=f"these ways only (default: {usual}); (e) and (j) take half of the time",
    )
    add("--size", default=",".join(map(str, SIZES)), metavar="5,100", help="these sizes only, KB")
    add("--scale", default=SCALE, metavar="smtp-sender=2", help=f"copies of our processes, the others one (default: {SCALE})")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of our processes; repeatable")
    add("--no-memory", action="store_true", help="leave out idle memory and the mails of 20 MB")
    add("--backlog", type=int, metavar="RESULTS", help="in (g), a multiple of 20 (default: 200000 and 50000)")
    add("--outbox", type=int, default=MESSAGES, metavar="MAILS", help=f"in (k) (default: {MESSAGES}: 20 minutes, 12 GB of disk)")
    add("--keep", action="store_true", help="keep the folder with all logs, ledgers and data")
    add("--save", action="store_true", help="write docs/bench.json, .md and .svg too")
    given = parser.parse_args()
    given.ways = given.only.split(",")
    if not given.ways or set(given.ways) - set(WAYS):
        parser.error(f"--only {given.only!r}: expected some of {','.join(WAYS)}")
    given.sizes = [int(size) if size.isdecimal() else 0 for size in given.size.split(",")]
    if set(given.sizes) - set(SIZES):
        parser.error(f"--size {given.size!r}: expected some of {','.join(map(str, SIZES))}")
    is_rounds_alone = not {MANY, ACCEPTING, RECORDING, PACED, SCALING, BACKLOG} & set(given.ways)
    if is_rounds_alone and not make_plan(given.ways, given.sizes, 1, quick=given.quick):
        parser.error(f"--only {given.only!r} --size {given.size!r}: there is no such mail")
    if any("=" not in setting for setting in given.set):
        parser.error("--set: expected NAME=VALUE")
    given.settings = dict(setting.split("=", 1) for setting in given.set)
    if given.rounds < 1:
        parser.error("--rounds: expected at least 1")
    given.turns = 1 if given.quick else given.rounds
    if not SMALL <= given.outbox < 10_000_000:
        parser.error(f"--outbox {given.outbox}: expected {SMALL} to 9999999")
    try:
        given.copies = parse_scale(given.scale)
    except StackError as error:
        parser.error(str(error))
    return given


def main() -> int:
    """Measure, tell, write down; 0 when every round counts, whatever the figures say."""
    given = _read_arguments()
    if {"c", ACCEPTING} & set(given.ways) and os.geteuid() != 0:
        print("Postfix must be started by root: run this as root, or without Postfix: python -m tests.bench --only a,b,d,e")
        return 2
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    console = Console(width=None if sys.stdout.isatty() else 160)
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"{time.monotonic() - began:5.0f} s  {line}", markup=False, highlight=False)

    try:
        result, is_whole = _measure(given, console, say)
    except (StackError, KeyboardInterrupt) as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return 1
    _write(result, say, save=given.save)
    return 0 if is_whole else 1


def _measure(given: argparse.Namespace, console: Console, say: Any) -> tuple[dict[str, Any], bool]:
    ours = bool(OUR_WAYS & set(given.ways))
    needed = {
        "RabbitMQ": set(given.ways) != {"c"},
        "our processes": ours,
        "Postfix": "c" in given.ways,
        "Celery": CELERY in given.ways,
    }
    say("Starting " + ", ".join(name for name, is_needed in needed.items() if is_needed))
    with open_stage(given.ways, given.settings, given.copies, say, keep=given.keep) as stage:
        if BACKLOG in given.ways:
            check_room(stage.folder, given.outbox)
        described = machine.describe(stage.folder, stage.stack)
        measured = _measure_all(given, stage, say, with_memory=ours and not given.no_memory)
    options = {
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "rounds": given.turns,
        "quick": given.quick,
        "scale": given.copies,
        "settings": given.settings,
        "smtp sessions": load.SESSIONS,
        "publishes in flight": load.WINDOW,
        "postfix deliveries at once": postfix.CONCURRENCY,
    }
    report.print_report(console, described, measured)
    return report.render_json(described, options, measured), not any(measured.find_faults())


def _measure_all(given: argparse.Namespace, stage: Stage, say: Any, *, with_memory: bool) -> Measured:
    """In this order: fresh processes, rounds, processes that have worked, many domains, a large backlog."""
    footprint = None
    if with_memory:
        say("Memory: idle, then a mail of 20 MB")
        footprint = measure_memory(stage)
    rounds = run_series(make_plan(given.ways, given.sizes, given.turns, quick=given.quick), stage)
    if any(one.is_stuck for one in rounds):
        return Measured(rounds, footprint)
    loaded = _measure_loaded(given, stage, say) if with_memory else None
    pacing = _measure_pacing(given, stage, say, rounds) if PACED in given.ways else []
    crowds = _measure_crowds(given, stage, say) if MANY in given.ways else []
    accepting, recording, archiving = [], [], []
    if ACCEPTING in given.ways:
        say("Acceptance: what is behind the inboxes is stopped")
        accepting = measure_accepting(stage, given.turns, quick=given.quick)
    if RECORDING in given.ways:
        say("Recording: a backlog for one recorder")
        recording = measure_recording(stage, quick=given.quick, results=given.backlog)
        say("Archiving: old verdicts in a database of their own")
        archiving = [_archive(stage, say, quick=given.quick) for _ in range(given.turns)]
    scaling = _measure_scaling(given, stage, say) if SCALING in given.ways else []
    heavy = []
    if with_memory:
        say("Memory: clients that mean to fill it")
        heavy = measure_heavy(stage, quick=given.quick)
    backlog = _measure_backlog(given, stage, say) if BACKLOG in given.ways else None
    return Measured(
        rounds, footprint, loaded, crowds, accepting, heavy, recording, archiving, pacing=pacing, scaling=scaling, backlog=backlog
    )


def _measure_loaded(given: argparse.Namespace, stage: Stage, say: Any) -> LoadedPeak:
    say("Memory: a mail of 20 MB among many of 5 KB")
    loaded = measure_loaded(stage, quick=given.quick)
    say(f"smtp-sender: {loaded.octets / 1e6:.0f} MB at the peak")
    return loaded


def _measure_pacing(given: argparse.Namespace, stage: Stage, say: Any, rounds: list[Round]) -> list[PacedResult]:
    say("Time from 250 to the sink, at half of the full rate")
    return measure_pacing(stage, rounds, given.turns, quick=given.quick)


def _measure_crowds(given: argparse.Namespace, stage: Stage, say: Any) -> list[CrowdResult]:
    crowds = []
    for crowd in make_crowds(quick=given.quick):
        crowds.append(measure_crowd(crowd, stage))
        told = f"; DOES NOT COUNT: {', '.join(crowds[-1].faults)}" if crowds[-1].faults else ""
        say(f"{crowd.title}: {crowd.messages:,} mails, {crowds[-1].rate:,.0f}/s to those that are well{told}")
    return crowds


def _measure_scaling(given: argparse.Namespace, stage: Stage, say: Any) -> list[ScalingResult]:
    say("Scaling: the same backlog for one smtp-sender and for two")
    return measure_scaling(stage, given.turns, quick=given.quick)


def _measure_backlog(given: argparse.Namespace, stage: Stage, say: Any) -> BacklogResult:
    say(f"Backlog: {SMALL:,} mails in outbox, then {given.outbox:,}")
    return measure_backlog(stage, given.outbox)


def _archive(stage: Stage, say: Any, *, quick: bool) -> ArchivingResult:
    assert stage.stack is not None
    result = measure_archiving(stage.stack.postgres, rows=ROWS // (5 if quick else 1))
    say(f"({RECORDING}) {result.rows:,} rows archived, {result.rate:,.0f}/s")
    return result


def _write(result: dict[str, Any], say: Any, *, save: bool) -> None:
    from tests.bench.picture import draw  # matplotlib takes a second and 60 MB: not while measuring

    for folder in (_FOLDER, _DOCS) if save else (_FOLDER,):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        told = f"written: {folder}/bench.json"
        if result["figures"]:
            (folder / "bench.md").write_text(render_markdown(result))
            draw(result, folder / "bench.svg")
            told += ", .md and .svg"
        say(told)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
