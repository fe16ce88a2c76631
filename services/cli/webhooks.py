"""``mailwarren webhooks``: endpoints that events are posted to, in Postgres."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.collection import Names, Raw, read, remove_all, show_all
from services.cli.given import Address, Config, DbUri, load_given, read_text, wait_for
from shared.delivery.webhooks import EVENTS, Endpoint
from shared.mail.duration import parse_duration
from shared.storage.database import Database, DatabaseSettings
from shared.storage.webhooks import WEBHOOKS, Stored, disable_endpoint, enable_endpoint, store_endpoint
from shared.trouble import BadSetting
from shared.wire.times import render_time

HELP = "Endpoints that events are posted to: list, add, remove, enable, disable, test, replay."
group = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="webhooks")


@group.command("list")
def list_webhooks(raw: Raw = False, db_uri: DbUri = None, config: Config = None) -> int:
    """All webhooks and how they are, without their secrets."""
    return show_all(WEBHOOKS, ("name", "url", "events", "state"), _describe, raw=raw, db_uri=db_uri, config=config)


@group.command("add")
def add_webhook(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A webhook of this name is replaced; its secret stays.")],
    url: Annotated[str, typer.Option("--url", metavar="URL", help="https://…; http:// needs the setting webhook-allow-http.")],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", metavar="EVENT", help=f"May be repeated: {', '.join(EVENTS)}; default: delivered, failed."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="May be repeated: only mail with one of them.")
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option("--secret-file", metavar="FILE", help="A secret (whsec_…) of your own, - = standard input.")
    ] = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Add a webhook, or replace the one of the same name. A new secret is printed, once. The process knows it at once.

    \b
      SECRET=$(mailwarren webhooks add shop --url https://shop.example/mail-events)
      mailwarren webhooks add books --url https://books.example/hook --event failed --event deferred --tag invoices
    """
    document: dict[str, Any] = {"name": name, "url": url}
    document |= {"events": event} if event else {}
    document |= {"tags": tag} if tag else {}
    if secret_file is not None:
        document["secret"] = read_text(secret_file, "a secret")[0].strip()
    endpoint = read(WEBHOOKS, document, "webhook")
    if not isinstance(endpoint, Endpoint):
        raise TypeError("the collection of webhooks is read by parse_endpoint")
    stored = wait_for(_store(load_given(DatabaseSettings, config, db_uri=db_uri), endpoint))
    told = f"{'added' if stored.is_new else 'replaced'} webhook {name!r}"
    if stored.secret is None or secret_file is not None:
        print(told, file=sys.stderr)
        return 0
    print(f"{told}; its secret, this is the only time that it is shown:", file=sys.stderr)
    print(stored.secret)
    return 0


@group.command("remove")
def remove_webhooks(name: Names, db_uri: DbUri = None, config: Config = None) -> int:
    """Remove webhooks: events that wait for them are dropped."""
    return remove_all(WEBHOOKS, name, db_uri=db_uri, config=config)


@group.command("enable")
def enable_webhook(name: Name, db_uri: DbUri = None, config: Config = None) -> int:
    """Start a webhook afresh. What happened meanwhile: 'mailwarren webhooks replay'."""
    return _tell(wait_for(_enable(load_given(DatabaseSettings, config, db_uri=db_uri), name)), name, "enabled", "no webhook")


@group.command("disable")
def disable_webhook(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For those who read the list.")] = "by hand",
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Post nothing to it any more; events that wait for it are dropped."""
    done = wait_for(_disable(load_given(DatabaseSettings, config, db_uri=db_uri), name, reason))
    return _tell(done, name, "disabled", "no enabled webhook")


@group.command("test")
def post_test(
    name: Name,
    allow_http: Annotated[bool, typer.Option("--webhook-allow-http", help="Else WEBHOOK_ALLOW_HTTP.")] = False,
    allow_private: Annotated[
        str | None, typer.Option("--webhook-allow-private", metavar="CIDRS", help="Else WEBHOOK_ALLOW_PRIVATE.")
    ] = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Post one signed event of the type 'test' now, from here, and say what came of it. Nothing is retried or counted."""
    # Only here: the other commands do without an HTTP client.
    from services.cli.webhook_calls import ServiceSettings, send_test

    given: dict[str, Any] = {"db_uri": db_uri, "webhook_allow_private": allow_private}
    given |= {"webhook_allow_http": "true"} if allow_http else {}
    answer = wait_for(send_test(load_given(ServiceSettings, config, **given), name))
    if answer is None:
        return _tell(False, name, "", "no webhook")
    print(f"{name}: {answer.result}" + (f": {answer.reason}" if answer.reason else ""))
    return 0 if answer.is_taken else 1


@group.command("replay")
def replay_webhook(
    name: Name,
    since: Annotated[str, typer.Option("--since", metavar="DURATION", help="So far back: 90m, 24h.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many, send nothing.")] = False,
    address: Address = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Post the final results in Postgres again, those of the last --since, to one webhook.

    \b
    Events have the ids that they had: a receiver that keeps them drops what it knows. They tell what Postgres keeps: the
    mail's ids, addresses, subject and every attempt. Events 'accepted' and 'deferred' are not among them.
      mailwarren webhooks replay shop --since 24h
    """
    from services.cli.webhook_calls import ServiceSettings, replay_events

    settings = load_given(ServiceSettings, config, rabbitmq_address=address, db_uri=db_uri)
    try:
        start = datetime.now(UTC) - parse_duration(since)
    except (ValueError, OverflowError) as error:
        raise BadSetting(f"--since {since!r}: {error}") from None
    count = wait_for(replay_events(settings, name, start, dry_run=dry_run))
    if count is None:
        return _tell(False, name, "", "no webhook")
    print(f"{'would replay' if dry_run else 'replaying'} {count} events to {name!r}")
    return 0


def _tell(done: bool, name: str, what: str, missing: str) -> int:
    if done:
        print(f"{what} webhook {name!r}")
        return 0
    print(f"{missing} {name!r}", file=sys.stderr)
    return 1


def _describe(endpoint: Endpoint) -> Sequence[Sequence[str]]:
    state = "enabled"
    if endpoint.is_enabled is False:
        when = "" if endpoint.disabled_at is None else f" since {render_time(endpoint.disabled_at)}"
        state = f"disabled{when}"
    elif endpoint.failing_since is not None:
        state = f"failing since {render_time(endpoint.failing_since)}"
    state += f": {endpoint.reason}" if endpoint.reason and state != "enabled" else ""
    events = ", ".join(one for one in EVENTS if one in endpoint.events)
    return [[endpoint.name, endpoint.url, events, state]]


async def _store(settings: DatabaseSettings, endpoint: Endpoint) -> Stored:
    database = Database(settings, name="mailwarren webhooks")
    try:
        async with database.connection() as connection:
            return await store_endpoint(connection, endpoint, datetime.now(UTC))
    finally:
        await database.close()


async def _enable(settings: DatabaseSettings, name: str) -> bool:
    database = Database(settings, name="mailwarren webhooks")
    try:
        async with database.connection() as connection:
            return await enable_endpoint(connection, name, datetime.now(UTC))
    finally:
        await database.close()


async def _disable(settings: DatabaseSettings, name: str, reason: str) -> bool:
    database = Database(settings, name="mailwarren webhooks")
    try:
        async with database.connection() as connection:
            return await disable_endpoint(connection, name, reason, datetime.now(UTC))
    finally:
        await database.close()
