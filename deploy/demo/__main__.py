"""Runs the demo: starts everything, sends real mail three ways, waits, shows, checks, and leaves nothing running."""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.demo.internet import Internet
from deploy.demo.look import Seen, find_mistakes, find_result, find_row, read_rows, spell_attempts, take_results
from deploy.demo.mails import MAILS, Expected
from deploy.demo.send import send_all, store_rules
from deploy.stack.places import ROOT, StackError
from deploy.stack.temporary import TemporaryStack
from tests.support.waiting import free_ports

PATIENCE = 90.0
"""Seconds in which all mails must have come to their end."""
RETRY_INTERVAL = "3"
"""Seconds between two attempts: a person is waiting (the built-in schedule begins with 10 minutes)."""


def main() -> int:
    """0 when every mail ended as it should."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    run = ROOT / ".run"
    run.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="demo-", dir=run) as folder:
            return _run(console, Path(folder))
    except StackError as error:
        console.print(f"The demo could not be run: {error}", markup=False)
        return 1


def _run(console: Console, folder: Path) -> int:
    def say(line: str) -> None:
        console.print(f"  {line}", markup=False)

    (http_port,) = free_ports(1)
    http_address = f"127.0.0.1:{http_port}"
    console.print("[bold]Starting[/] RabbitMQ, Postgres, the seven processes, and a local internet")
    with Internet(folder, notify=f"http://{http_address}/v1/messages") as internet:
        settings = {"HTTP_LISTEN": http_address, "RETRY_INTERVAL": RETRY_INTERVAL, **internet.settings}
        with TemporaryStack(settings, below=ROOT / ".run", say=say) as stack:
            handed_in = sum(1 for mail in MAILS if mail.way)
            console.print(
                f"[bold]Sending[/] {handed_in} mails by SMTP, HTTP and AMQP; a bounce and a notification will come of them"
            )
            store_rules(stack.env)
            send_all(MAILS, stack.env)
            seen = _wait(console, stack, MAILS)
            _show(console, seen)
            mistakes = find_mistakes(MAILS, seen, internet)
            console.print("[bold]Stopping[/] everything")
    for mistake in mistakes:
        console.print(f"NOT AS IT SHOULD BE: {mistake}", markup=False)
    if not mistakes:
        console.print(f"All {len(MAILS)} mails ended as they should. Nothing is left running.")
    return 1 if mistakes else 0


def _wait(console: Console, stack: TemporaryStack, mails: Sequence[Expected]) -> Seen:
    """Wait until every mail has its result and its row, or the patience is over."""
    seen = Seen()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        waiting = progress.add_task("", total=None)
        give_up, told = time.monotonic() + PATIENCE, ""
        while time.monotonic() < give_up:
            take_results(stack.env, seen)
            read_rows(stack.env, seen)
            results = sum(len(found) for found in seen.results.values())
            line = f"Waiting: {results} of {len(mails)} results on the queues, {len(seen.rows)} final rows in Postgres"
            progress.update(waiting, description=line)
            if line != told and not console.is_terminal:
                console.print(f"  {line}")
            told = line
            if results >= len(mails) and len(seen.rows) >= len(mails):
                break
            time.sleep(0.25)
    return seen


def _show(console: Console, seen: Seen) -> None:
    table = Table(title="What became of every mail", title_justify="left")
    for column in ("in by", "recipient", "story", "attempts (state/result/code)", "end", "last reply"):
        table.add_column(column, overflow="fold")
    for mail in MAILS:
        row = find_row(seen, mail)
        attempts = "\n".join(spell_attempts(row)) if row else "none"
        reply = row["results"][-1].get("description", "") if row else ""
        table.add_row(mail.way or "-", mail.recipient, mail.story, attempts, row["status"] if row else "?", reply)
    console.print(table)
    for title, mail in (("success", MAILS[3]), ("failures", MAILS[5])):
        result = find_result(seen, mail)
        console.print(f"[bold]A result from the queue {title}[/]")
        console.print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode(), markup=False)
    rows = Table(title="Rows in Postgres: message_status", title_justify="left")
    names = ("recipient", "delivery_strategy", "status", "state", "code", "destination")
    for name in names:
        rows.add_column(name, overflow="fold")
    for row in seen.rows:
        rows.add_row(*(str(row[name]) for name in names))
    console.print(rows)


if __name__ == "__main__":
    sys.exit(main())
