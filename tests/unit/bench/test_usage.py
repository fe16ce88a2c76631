"""CPU and memory are those of real processes, also of children that came and went."""

import os
import subprocess
import sys

import pytest

from tests.bench.usage import Meter, read_memory
from tests.support.waiting import wait_until

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def start(code: str) -> subprocess.Popen[str]:
    """A Python process that runs ``code`` when it is told to, says so, and waits."""
    waits = f"import sys, subprocess\nprint('up', flush=True)\nsys.stdin.readline()\n{code}\nprint('done', flush=True)\nsys.stdin.read()"
    argv = [sys.executable, "-S", "-c", waits]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


@pytest.mark.parametrize("by_child", [False, True])
def test_cpu_of_a_process_and_of_its_children_that_have_ended(by_child: bool) -> None:
    code = f"subprocess.run([sys.executable, '-S', '-c', {BURN!r}])" if by_child else BURN
    with start(code) as busy, start("") as idle:
        with Meter({"busy": [busy.pid], "idle": [idle.pid]}) as meter:
            go(busy)
            usage = meter.read()
        busy.communicate()
        idle.communicate()
    assert 0.25 < usage.cpu["busy"] < 2
    assert usage.cpu["idle"] < 0.1
    assert usage.machine > 0.25


def test_what_children_use_does_not_count_for_a_group_that_is_alone() -> None:
    with start(f"subprocess.run([sys.executable, '-S', '-c', {BURN!r}])") as parent:
        with Meter({"parent": [parent.pid]}, alone=["parent"]) as meter:
            go(parent)
            usage = meter.read()
        parent.communicate()
    assert usage.cpu["parent"] < 0.2


def test_a_peak_is_seen_after_it_is_over_and_forgotten_by_the_next_meter() -> None:
    with start("kept = bytearray(50_000_000)\ndel kept") as process:
        with Meter({"one": [process.pid]}) as meter:
            go(process)
            peak = meter.read().memory["one"]
        with Meter({"one": [process.pid]}) as meter:
            later = meter.read().memory["one"]
        process.communicate()
    assert peak > 50_000_000 > later


def test_a_process_that_is_gone_has_no_memory() -> None:
    with start("") as process:
        assert read_memory(process.pid) is not None
        process.communicate()
    assert read_memory(process.pid) is None


def test_cpu_of_a_process_that_ended_is_told() -> None:
    with start("") as process, Meter({"here": [os.getpid()]}) as meter:
        meter.watch("guest", process.pid)
        process.communicate()
        wait_until(lambda: read_memory(process.pid) is None, what="the process to be gone")
        meter.add_cpu("guest", 1.5)
        usage = meter.read()
    assert usage.cpu["guest"] == pytest.approx(1.5)
