"""Hands in the demo's mails, each the way its user would: smtplib, an HTTP request, a JSON message on the exchange ``outbox``."""

import smtplib
from collections.abc import Mapping, Sequence
from email.message import EmailMessage

import httpx
import orjson
import pika

from deploy.demo.mails import RULES, SENDER, Expected


def store_rules(http_address: str) -> None:
    """Tell the router what is to be sealed."""
    for rule in RULES:
        httpx.post(f"{http_address}/v1/config", json=rule, timeout=10).raise_for_status()


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
