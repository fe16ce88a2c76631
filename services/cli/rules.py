"""``mailwarren rules``: the router's rules, in Postgres."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from services.cli.draft import Draft, read_draft
from services.cli.given import Config, DbUri, load_given, read_text, wait_for
from services.cli.table import render_table
from shared.delivery.rules import Rule, explain_route, order_rules, parse_rule
from shared.mail.headers import parse_extract
from shared.storage.database import Connection, Database, DatabaseSettings
from shared.storage.rules_table import delete_rule, fetch_rules, store_rule
from shared.trouble import BadSetting
from shared.wire.document import parse_document
from shared.wire.message import Message

group = typer.Typer(help="The router's rules: list, add, remove, test.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME")]
JSON_FILE = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="A rule or a list of rules as JSON, - = standard input.")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="rules")


@group.command("list")
def list_rules(
    raw: Annotated[bool, typer.Option("--raw", help="JSON, as 'rules add --file' takes it.")] = False,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """All rules, in the order in which they are tried."""
    found = wait_for(_fetch(load_given(DatabaseSettings, config, db_uri=db_uri)))
    if raw:
        documents = [{name: row[name] for name in ("name", "priority", "configuration")} for row in found]
        print(orjson.dumps(documents, option=orjson.OPT_INDENT_2).decode())
        return 0
    if not found:
        print("no rules: every mail goes the way of router-default")
        return 0
    rows = [_describe(parse_rule(row)) for row in found]
    for line in render_table(("priority", "name", "outbound", "when all match"), rows):
        print(line)
    return 0


@group.command("add")
def add_rule(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A rule of this name is replaced.")] = None,
    priority: Annotated[int, typer.Option("--priority", help="Lower is tried first.")] = 0,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=PATTERN", help="May be repeated; the same name twice: any of them."),
    ] = None,
    outbound: Annotated[
        str, typer.Option("--outbound", metavar="smtp|seal[,…]", help="Strategies, the first that takes the mail.")
    ] = "",
    file: JSON_FILE = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Add a rule, or replace the one of the same name.

    \b
    Parameters: channel, sender, sender_domain, recipient, recipient_domain, subject, header.<name>, tag, size_over.
    Patterns ignore case, * stands for any text. No parameter: every mail.
      mailwarren rules add clinic --priority 10 --param recipient_domain=clinic.example --outbound seal
      mailwarren rules add notices --param channel=json --param 'sender=no-reply@*' --outbound smtp
      mailwarren rules add --file rules.json
    """
    if file is not None:
        if name is not None or param or outbound:
            raise BadSetting("either NAME with --param and --outbound, or --file, not both")
        rules = _parse_file(*read_text(file, "a rule as JSON"))
    else:
        if name is None:
            raise BadSetting("NAME is missing")
        rules = [_parse(build_rule(name, priority, param or [], outbound), "rule")]
    settings = load_given(DatabaseSettings, config, db_uri=db_uri)
    for rule, is_new in zip(rules, wait_for(_store(settings, rules)), strict=True):
        print(f"{'added' if is_new else 'replaced'} rule {rule.name!r}")
    return 0


@group.command("remove")
def remove_rule(name: Name, db_uri: DbUri = None, config: Config = None) -> int:
    """Remove a rule."""
    if not wait_for(_delete(load_given(DatabaseSettings, config, db_uri=db_uri), name)):
        print(f"no rule {name!r}", file=sys.stderr)
        return 1
    print(f"removed rule {name!r}")
    return 0


@group.command("test")
def try_rules(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A message (.eml) or JSON message; - = standard input.")
    ] = None,
    sender: Annotated[str | None, typer.Option("--from", help="Envelope sender.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Recipient.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Subject.")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="May be repeated.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="May be repeated.")] = None,
    channel: Annotated[str, typer.Option("--channel", metavar="smtp|json|amqp", help="How it came in.")] = "smtp",
    size: Annotated[int | None, typer.Option("--size", min=0, help="Bytes.")] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", help="Asked for by the message.")] = None,
    default: Annotated[str, typer.Option("--router-default", envvar="ROUTER_DEFAULT", help="When no rule matches.")] = "smtp",
    rules_file: Annotated[
        Path | None, typer.Option("--rules", metavar="FILE", help="Rules as JSON instead of those in Postgres.")
    ] = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Which way would a mail go, and why? Nothing is sent.

    \b
      mailwarren rules test --from me@example.com --to you@clinic.example
      mailwarren rules test --rules rules.json mail.eml
    """
    if default not in ("smtp", "seal", "fail"):
        raise BadSetting(f"--router-default {default!r}: expected smtp, seal or fail")
    message = _sample(file, sender, to, subject, header or [], channel)
    extra = {"tags": tag or None, "size": size, "strategy": strategy}
    message |= {key: value for key, value in extra.items() if value is not None}
    if rules_file is not None:
        rules = _parse_file(*read_text(rules_file, "rules as JSON"))
    else:
        rows = wait_for(_fetch(load_given(DatabaseSettings, config, db_uri=db_uri)))
        rules = [_parse(row, "Postgres") for row in rows]
    route, passed = explain_route(Message(message), order_rules(rules), default=default)
    for name, outcome in passed:
        print(f"  rule {name}: {outcome}")
    print(f"goes to {', then '.join(route.outbound) or 'nobody: it fails'}: {route.reason}")
    if channel == "amqp":
        print("NOTE: mail published to the exchange 'outbox' passes no rules: it goes by SMTP unless it says \"strategy\".")
        print("      Bind the exchange 'outbox' to the queue 'inbox' instead of 'outbox' and it does.")
    return 0 if route.outbound else 1


def build_rule(name: str, priority: int, params: Sequence[str], outbound: str) -> dict[str, Any]:
    """The document of a rule from options. Raises BadSetting."""
    gathered: dict[str, Any] = {}
    for param in params:
        key, separator, pattern = param.partition("=")
        if not separator or not key:
            raise BadSetting(f"--param {param!r}: expected NAME=PATTERN")
        if key == "size_over":
            if not pattern.isascii() or not pattern.isdigit():
                raise BadSetting(f"--param {param!r}: expected a number of bytes")
            gathered[key] = int(pattern)
        else:
            gathered.setdefault(key, []).append(pattern)
    strategies = [word.strip() for word in outbound.split(",") if word.strip()]
    return {"name": name, "priority": priority, "configuration": {"params": gathered, "outbound": strategies}}


def _parse_file(text: str, source: str) -> list[Rule]:
    """A rule, or a list of rules."""
    whole = parse_document(f'{{"rules": {text}}}'.encode()).get("rules")
    documents = whole if isinstance(whole, list) else [whole]
    if not all(isinstance(item, dict) for item in documents):
        raise BadSetting(f"{source}: expected a rule as a JSON object, or a list of them")
    return [_parse(item, f"{source}: rule {index}") for index, item in enumerate(documents, 1)]


def _parse(document: Any, source: str) -> Rule:
    try:
        return parse_rule(document)
    except ValueError as error:
        raise BadSetting(f"{source}: {error}") from None


def _sample(
    file: Path | None, sender: str | None, to: str | None, subject: str | None, headers: Sequence[str], channel: str
) -> dict[str, Any]:
    """A message with what rules look at."""
    if file is not None:
        draft = read_draft(file, sender, [to] if to else [], subject=None, text=None, html=None, now=datetime.now(UTC))
        return _from_draft(draft, channel)
    named: dict[str, Any] = {}
    for header in headers:
        name, separator, value = header.partition("=")
        if not separator or not name:
            raise BadSetting(f"--header {header!r}: expected NAME=VALUE")
        named.setdefault(name.lower(), []).append(value)
    extracted = {"subject": subject or "", "headers": named}
    return {"envelope": sender or "", "recipient": to or "", "channel": channel, "extracted": extracted, "id": "test"}


def _from_draft(draft: Draft, channel: str) -> dict[str, Any]:
    if draft.documents is not None:
        return {"id": "test", "channel": channel, **draft.documents[0]}
    facts = {"extracted": parse_extract(draft.content), "size": len(draft.content), "channel": channel, "id": "test"}
    return {"envelope": draft.reverse_path, "recipient": draft.recipients[0], **facts}


def _describe(rule: Rule) -> list[str]:
    params = ", ".join(f"{name} = {' or '.join(patterns)}" for name, patterns in rule.params.items())
    return [str(rule.priority), rule.name, ", ".join(rule.outbound), params or "(every mail)"]


@asynccontextmanager
async def _open(settings: DatabaseSettings) -> AsyncIterator[Connection]:
    database = Database(settings, name="mailwarren rules")
    try:
        async with database.connection() as connection:
            yield connection
    finally:
        await database.close()


async def _fetch(settings: DatabaseSettings) -> list[dict[str, Any]]:
    async with _open(settings) as connection:
        return await fetch_rules(connection)


async def _store(settings: DatabaseSettings, rules: Sequence[Rule]) -> list[bool]:
    """All or none."""
    async with _open(settings) as connection, connection.transaction():
        return [await store_rule(connection, {"priority": rule.priority, **rule.document}) for rule in rules]


async def _delete(settings: DatabaseSettings, name: str) -> bool:
    async with _open(settings) as connection:
        return await delete_rule(connection, name)
