"""``make status``: a table of a stack's processes."""

import time

import psutil

from deploy.stack.stack import Stack

_HEADINGS = ("process", "state", "pid", "uptime", "cpu", "cpu time", "memory", "port")


def render_status(stack: Stack) -> str:
    """The table; CPU and memory are of the process with all its children, CPU per cent over half a second."""
    states = stack.states()
    families = {state.name: _find_family(state.pid) for state in states if state.runs}
    before = {name: _cpu_seconds(family) for name, family in families.items()}
    began = time.monotonic()
    time.sleep(0.5)
    rows = [_HEADINGS]
    for state in states:
        ports = " ".join(map(str, stack.ports(state.name)))
        if not state.runs:
            rows.append((state.name, state.state.lower(), "-", "-", "-", "-", "-", ports))
            continue
        family = families[state.name]
        began_at = _started(state.pid)
        used = _cpu_seconds(family)
        share = 100 * (used - before[state.name]) / (time.monotonic() - began)
        trouble = stack.find_trouble(state.name)
        rows.append(
            (
                state.name,
                "ready" if trouble is None else "not ready",
                str(state.pid),
                "-" if began_at is None else _render_time(time.time() - began_at),
                f"{share:.0f} %",
                _render_time(used),
                f"{_memory(family) / 1e6:.0f} MB",
                ports,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _started(pid: int) -> float | None:
    """Unix seconds; None when it has just ended."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def _find_family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_seconds(family: list[psutil.Process]) -> float:
    total = 0.0
    for process in family:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _memory(family: list[psutil.Process]) -> int:
    """Bytes, shared pages counted once where the kernel tells (only for our own processes), else resident size."""
    total = 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except psutil.AccessDenied:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _render_time(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
