"""``mailwarren send``: a test mail, through the door of one's choice."""

import smtplib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from services.cli.draft import Draft, read_draft
from services.cli.given import Address, Config, load_given, wait_for
from shared.amqp.application import publish_as_application
from shared.amqp.settings import BrokerSettings
from shared.process import split_address
from shared.settings import mask_url
from shared.trouble import BadSetting, Unavailable
from shared.wire.document import render_document

WAYS = ("smtp", "http", "amqp")
ANSWER_WITHIN = 60
"""Seconds for one answer of an inbox."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(send)


def send(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A message (.eml) or a JSON message (.json); - = standard input.")
    ] = None,
    via: Annotated[str, typer.Option("--via", metavar="smtp|http|amqp", help="Through which door.")] = "smtp",
    reverse_path: Annotated[
        str | None, typer.Option("--from", help="Envelope sender; <> is the null sender. Default: the From header.")
    ] = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", help="Recipient, may be repeated. Default: those of the header To.")
    ] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Subject of the test mail.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="Its text.")] = None,
    html: Annotated[str | None, typer.Option("--html", help="Its HTML.")] = None,
    smtp: Annotated[
        str, typer.Option("--smtp-inbox-address", envvar="SMTP_INBOX_ADDRESS", metavar="HOST:PORT")
    ] = "127.0.0.1:1587",
    http: Annotated[str, typer.Option("--http-address", envvar="HTTP_ADDRESS", metavar="URL")] = "http://127.0.0.1:8100",
    exchange: Annotated[str, typer.Option("--exchange", help="With --via amqp: where applications publish mail.")] = "outbox",
    address: Address = None,
    config: Config = None,
) -> int:
    """Send a test mail over SMTP, HTTP or AMQP.

    \b
    Prints what the door answered: reply and ids, or the message-id to ask for.
      mailwarren send --to you@example.org
      mailwarren send --via http --from me@example.com --to a@example.org --to b@example.org --subject Hi --text Hello
      mailwarren send --via amqp message.json
      mailwarren send --from me@example.com --to you@example.org < mail.eml
    """
    if via not in WAYS:
        raise BadSetting(f"--via {via!r}: expected {', '.join(WAYS)}")
    draft = read_draft(file, reverse_path, to or [], subject=subject, text=text, html=html, now=datetime.now(UTC))
    if via == "smtp":
        return _send_smtp(draft, smtp)
    if via == "http":
        return _send_http(draft, http)
    settings = load_given(BrokerSettings, config, rabbitmq_address=address)
    documents = draft.to_documents()
    wait_for(publish_as_application(settings, exchange, "outbox", [render_document(document) for document in documents]))
    for document in documents:
        print(
            f"published to exchange {exchange!r}: message-id {document.get('message-id', '(none given)')} for {document.get('recipient')}"
        )
    return 0


def _send_smtp(draft: Draft, address: str) -> int:
    """One transaction; the replies of the inbox are printed as they came."""
    if draft.documents is not None:
        raise BadSetting("a JSON message goes --via http or --via amqp")
    host, port = split_address(address, "smtp-inbox-address")
    try:
        with smtplib.SMTP(host, port, timeout=ANSWER_WITHIN) as session:
            return _transact(session, draft)
    except (OSError, smtplib.SMTPException) as error:
        raise Unavailable(f"SMTP inbox at {address}: {_explain(error)}") from None


def _transact(session: smtplib.SMTP, draft: Draft) -> int:
    session.ehlo()
    addresses = (draft.reverse_path, *draft.recipients)
    options = []
    if not all(item.isascii() for item in addresses):
        if not session.has_extn("smtputf8"):
            raise Unavailable("the inbox does not offer SMTPUTF8, which an address needs")
        session.command_encoding = "utf-8"
        options = ["SMTPUTF8"]
    if session.has_extn("8bitmime"):
        options.append("BODY=8BITMIME")
    refused = False
    code, reply = session.mail(draft.reverse_path, options)
    if code != 250:
        return _print_reply(code, reply, f"MAIL FROM:<{draft.reverse_path}>")
    taken = 0
    for recipient in draft.recipients:
        code, reply = session.rcpt(recipient)
        taken += code in (250, 251)
        if code not in (250, 251):
            refused = True
            _print_reply(code, reply, f"RCPT TO:<{recipient}>")
    if not taken:
        return 1
    code, reply = session.data(draft.content)
    return _print_reply(code, reply) or int(refused)


def _print_reply(code: int, reply: bytes, command: str = "") -> int:
    """0 when the reply is positive."""
    head = f"{command}: " if command else ""
    for line in reply.decode(errors="replace").splitlines():
        print(f"{head}{code} {line}", file=sys.stdout if code < 400 else sys.stderr)
    return int(code >= 400)


def _send_http(draft: Draft, address: str) -> int:
    import httpx

    url = address.rstrip("/") + "/v1/messages"
    items: Sequence[Any] = draft.documents or [draft.to_submission()]
    body = orjson.dumps(items[0] if len(items) == 1 else items)
    try:
        answer = httpx.post(url, content=body, headers={"Content-Type": "application/json"}, timeout=ANSWER_WITHIN)
    except httpx.InvalidURL as error:
        raise BadSetting(f"http-address: {mask_url(address)!r}: {error}") from None
    except httpx.HTTPError as error:
        raise Unavailable(f"HTTP inbox at {mask_url(address)}: {_explain(error)}") from None
    if answer.status_code != 202:
        print(f"{answer.status_code} {_one_line(answer.text)}", file=sys.stderr)
        return 1
    print(answer.text.strip())
    return 0


def _explain(error: Exception) -> str:
    return _one_line(str(error)) or type(error).__name__


def _one_line(text: str) -> str:
    return " ".join(text.split())
