"""``mailwarren redrive``: what is parked in ``dead`` goes back into the queue where it was."""

from typing import Annotated

import typer

from services.cli.given import Address, Config, load_given, wait_for
from shared.amqp.redrive import Parked
from shared.amqp.redrive import redrive as move
from shared.amqp.settings import BrokerSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(redrive)


def redrive(
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only messages whose reason contains this text.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be moved; nothing is.")] = False,
    address: Address = None,
    config: Config = None,
) -> int:
    """Put parked messages back where they were.

    \b
    Oldest first, each into the queue where it was and nowhere else.
    At most as many as lie in 'dead' at the start; each is confirmed there before it is taken out here.
      mailwarren redrive --dry-run
      mailwarren redrive --reason 'mime64' --limit 10
    """
    left = 0

    def tell(parked: Parked, outcome: str) -> None:
        nonlocal left
        left += outcome.startswith("left")
        print(f"{outcome}: {parked.origin or '(unknown)'}  {parked.time}  {parked.size} bytes  {parked.reason[:200]}")

    settings = load_given(BrokerSettings, config, rabbitmq_address=address)
    moved = wait_for(move(settings, limit=limit, reason=reason, dry_run=dry_run, progress=tell))
    told = f", {left} left" if left else ""
    print(f"{moved} {'would be redriven' if dry_run else 'redriven'}{told}")
    return 1 if left else 0
