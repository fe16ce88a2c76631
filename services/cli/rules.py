"""``mailwarren rules``: the router's rules, in Postgres."""

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from services.cli.draft import Draft, read_draft
from services.cli.given import Config, DbUri, load_given, read_text, wait_for
from services.cli.rule_options import build_rule, render_rules, render_value
from shared.delivery.rewrites import apply_rewrite, find_changes
from shared.delivery.rule_params import CHANNELS
from shared.delivery.rules import Route, Rule, explain_route, parse_rule
from shared.mail.headers import parse_extract
from shared.storage.database import Connection, Database, DatabaseSettings
from shared.storage.rules_table import delete_rule, fetch_rules, store_rule
from shared.trouble import BadSetting
from shared.wire.document import parse_document
from shared.wire.message import Message
from shared.wire.times import render_time

group = typer.Typer(help="The router's rules: list, add, remove, test.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME")]
JSON_FILE = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="A rule or a list of rules as JSON, - = standard input.")
]

_ADD = """Add a rule, or replace the one of the same name. The routers follow within a second.

\b
A mail goes the way of the first rule, lower --priority first, of which
every --param matches:
  channel               smtp, json, amqp, actions: how it came in
  sender recipient      the address of the envelope
  sender_domain recipient_domain
  subject               decoded
  header.NAME           any header, any of several of that name
  tag                   any of the mail's tags
  size_over             more bytes than that
Case does not matter, * is any text, no --param at all takes every mail.

\b
--outbound is a chain: when the first refuses for good, the next is tried.
--set changes the mail that the rule takes:
  security=required     unless the mail asks for more
  pool=NAME  ips=IP     instead of the mail's own; ips may be repeated
  smarthost=HOST[:PORT] instead of the mail's own
  tags=TAG              in addition; may be repeated
  nextattempt=SECONDS   or "YYYY-MM-DD HH:MM:SS" (UTC): not before
  headers=JSON          '{"remove": "X-Internal"}'; see docs/rules.md

\b
  mailwarren rules add clinic --priority 10 \\
      --param recipient_domain=clinic.example --outbound seal
  mailwarren rules add news --param 'tag=news*' --outbound smtp \\
      --set pool=bulk --set tags=slow
  mailwarren rules add --file rules.json
  mailwarren rules test --to someone@clinic.example
"""
_NEW_LIFE = ("id", "seen", "outbound", "results")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="rules")


@group.command("list")
def list_rules(
    raw: Annotated[bool, typer.Option("--raw", help="JSON, as 'rules add --file' takes it.")] = False,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """All rules, in the order in which they are tried.

    \b
      mailwarren rules list
      mailwarren rules list --raw > rules.json     a copy that 'rules add --file'
                                                   takes; passwords included
    """
    found = wait_for(_fetch(load_given(DatabaseSettings, config, db_uri=db_uri)))
    if raw:
        documents = [{name: row[name] for name in ("name", "priority", "configuration")} for row in found]
        print(orjson.dumps(documents, option=orjson.OPT_INDENT_2).decode())
        return 0
    if not found:
        print("no rules: every mail goes the way of router-default")
        return 0
    for line in render_rules(_parse_rows(found)):
        print(line)
    return 0


@group.command("add", help=_ADD)
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
    rewrite: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PROPERTY=VALUE", help="Rewrite the mail. May be repeated."),
    ] = None,
    file: JSON_FILE = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Add a rule, or replace the one of the same name."""
    if file is not None and (name is not None or param or outbound or rewrite):
        raise BadSetting("either NAME with --param, --outbound and --set, or --file, not both")
    if file is not None:
        rules = _parse_file(*read_text(file, "a rule as JSON"))
    elif name is not None:
        rules = [_parse(build_rule(name, priority, param or [], outbound, rewrite or []), "rule")]
    else:
        raise BadSetting("NAME is missing")
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
    channel: Annotated[str, typer.Option("--channel", metavar="smtp|json|amqp|actions", help="How it came in.")] = "smtp",
    size: Annotated[int | None, typer.Option("--size", min=0, help="Bytes.")] = None,
    strategy: Annotated[str | None, typer.Option("--strategy", help="Asked for by the message.")] = None,
    default: Annotated[str, typer.Option("--router-default", envvar="ROUTER_DEFAULT", help="When no rule matches.")] = "smtp",
    rules_file: Annotated[
        Path | None, typer.Option("--rules", "--file", metavar="FILE", help="Rules as JSON instead of those in Postgres.")
    ] = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Which way would a mail go, and why? Nothing is sent.

    Tells for every rule why it was passed over, where the mail goes, and what
    the rule would change in it. Exit code 1: a mail would fail.

    \b
      mailwarren rules test --from me@example.com --to you@clinic.example
      mailwarren rules test mail.eml
      mailwarren rules test --rules rules.json --channel json message.json
    """
    if default not in ("smtp", "seal", "fail"):
        raise BadSetting(f"--router-default {default!r}: expected smtp, seal or fail")
    if channel not in CHANNELS:
        raise BadSetting(f"--channel {channel!r}: expected one of {', '.join(CHANNELS)}")
    extra = {"tags": tag or None, "size": size, "strategy": strategy}
    samples = _samples(file, sender, to, subject, header or [], channel)
    mails = [Message(sample | {key: value for key, value in extra.items() if value is not None}) for sample in samples]
    if rules_file is not None:
        rules = _parse_file(*read_text(rules_file, "rules as JSON"))
    else:
        rules = _fetch_parsed(load_given(DatabaseSettings, config, db_uri=db_uri))
    routes = [_tell(mail, rules, default, is_one_of_many=len(mails) > 1) for mail in mails]
    if channel == "amqp":
        print("NOTE: mail published to the exchange 'outbox' passes no rules: it goes by SMTP unless it says \"strategy\".")
        print("      Bind the exchange 'outbox' to the queue 'inbox' instead of 'outbox' and it does.")
    return 0 if all(route.outbound for route in routes) else 1


def _tell(mail: Message, rules: Sequence[Rule], default: str, *, is_one_of_many: bool) -> Route:
    route, passed = explain_route(mail, rules, default=default)
    if is_one_of_many:
        print(f"to {mail.recipient}:")
    for name, outcome in passed:
        print(f"  rule {name}: {outcome}")
    print(f"goes to {', then '.join(route.outbound) or 'nobody: it fails'}: {route.reason}")
    rewritten = mail if route.rule is None else apply_rewrite(mail, route.rule.rewrite)
    for name, value in find_changes(mail, rewritten).items():
        print(f"  rewritten: {name} = {render_value(name, value)}")
    return route


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


def _fetch_parsed(settings: DatabaseSettings) -> list[Rule]:
    return _parse_rows(wait_for(_fetch(settings)))


def _parse_rows(rows: Sequence[Mapping[str, Any]]) -> list[Rule]:
    return [_parse(row, f"rule {row['name']!r} in Postgres") for row in rows]


def _samples(
    file: Path | None, sender: str | None, to: str | None, subject: str | None, headers: Sequence[str], channel: str
) -> list[dict[str, Any]]:
    """Messages with what rules look at: one for each recipient."""
    seen = {"id": "test", "channel": channel, "seen": render_time(datetime.now(UTC))}
    if file is not None:
        draft = read_draft(file, sender, [to] if to else [], subject=None, text=None, html=None, now=datetime.now(UTC))
        return [seen | sample for sample in _from_draft(draft)]
    named: dict[str, Any] = {}
    for header in headers:
        name, separator, value = header.partition("=")
        if not separator or not name:
            raise BadSetting(f"--header {header!r}: expected NAME=VALUE")
        named.setdefault(name.lower(), []).append(value)
    extracted = {"subject": subject or "", "headers": named}
    return [seen | {"envelope": sender or "", "recipient": to or "", "extracted": extracted}]


def _from_draft(draft: Draft) -> list[dict[str, Any]]:
    if draft.documents is not None:
        # What an inbox found out about the mail (extracted, size) counts, so that one taken out of a queue can be tried.
        given = [{name: value for name, value in one.items() if name not in _NEW_LIFE} for one in draft.documents]
        return [one | {"recipient": recipient} for one in given for recipient in _recipients(one)]
    facts = {"extracted": parse_extract(draft.content), "size": len(draft.content), "envelope": draft.reverse_path}
    return [{"recipient": recipient} | facts for recipient in draft.recipients]


def _recipients(document: Mapping[str, Any]) -> list[Any]:
    """``recipients`` is how a message for several looks before the inbox makes one for each."""
    several = document.get("recipients")
    return several if isinstance(several, list) and several else [document.get("recipient")]


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
