"""Hands in the demo's mails, each the way its user would: smtplib, an HTTP request, a JSON message on the exchange ``outbox``."""

import smtplib
import time
from collections.abc import Mapping, Sequence
from email.message import EmailMessage

import httpx
import orjson
import pika

from deploy.demo.mails import RULES, SENDER, Expected
from deploy.stack.places import StackError


def store_rules(env: Mapping[str, str]) -> None:
    """Tell the router what is to be sealed, and wait until it knows."""
    for rule in RULES:
        httpx.post(f"{env['HTTP_ADDRESS']}/v1/config", json=rule, timeout=10).raise_for_status()
    deadline = time.monotonic() + 20
    while f"\nrouter_rules {len(RULES):.1f}\n" not in httpx.get(f"http://{env['METRICS_ROUTER']}/metrics", timeout=10).text:
        if time.monotonic() > deadline:
            raise StackError("the router does not learn its rules")
        time.sleep(0.1)


def send_all(mails: Sequence[Expected], env: Mapping[str, str]) -> None:
    """Hand in every mail that is ours to hand in."""
    for way, send in (("smtp", _send_smtp), ("http", _send_http), ("amqp", _send_amqp)):
        send([mail for mail in mails if mail.way == way], env)


def _compose(mail: Expected) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, mail.recipient, f"Demo: {mail.story}"
    message.set_content(f"This mail came in by {mail.way} and is to be {mail.story}.\n")
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n"))


def _send_smtp(mails: Sequence[Expected], env: Mapping[str, str]) -> None:
    host, _, port = env["SMTP_INBOX_ADDRESS"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        for mail in mails:
            client.sendmail(SENDER, [mail.recipient], _compose(mail))


def _send_http(mails: Sequence[Expected], env: Mapping[str, str]) -> None:
    messages = [{"envelope": SENDER, "recipient": mail.recipient, "mime": _compose(mail).decode()} for mail in mails]
    httpx.post(f"{env['HTTP_ADDRESS']}/v1/messages", json=messages, timeout=30).raise_for_status()


def _send_amqp(mails: Sequence[Expected], env: Mapping[str, str]) -> None:
    with pika.BlockingConnection(pika.URLParameters(env["RABBITMQ_ADDRESS"])) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent.value)
        for mail in mails:
            message = {"envelope": SENDER, "recipient": mail.recipient, "mime": _compose(mail).decode()}
            channel.basic_publish("outbox", "", orjson.dumps(message), properties, mandatory=True)
