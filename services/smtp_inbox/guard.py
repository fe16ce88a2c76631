"""What smtp-inbox looks at before it starts: does local mail, and refused mail, go somewhere that is not back to us or out again?"""

from collections.abc import Sequence
from datetime import timedelta

from services.smtp_inbox.local_settings import LocalSettings
from services.smtp_inbox.locals import LocalRecipients
from services.smtp_inbox.settings import ServiceSettings, parse_listeners
from shared.delivery.local_patterns import LocalPattern
from shared.delivery.rules import Rule, decide_route, order_rules, parse_rule
from shared.log import get_logger
from shared.loopback import is_loopback
from shared.storage.database import Database
from shared.storage.rules_table import fetch_rules
from shared.trouble import BadSetting, Unavailable
from shared.wire.message import Message

log = get_logger()

PATIENCE = timedelta(seconds=10)
CURE = "expected the key rabbitmq-local, or a rule that takes them (its first strategy is not smtp, or it rewrites the smarthost)"


def check_somebody_served(settings: ServiceSettings, recipients: LocalRecipients) -> None:
    """Raise BadSetting when a listener beyond loopback would serve nobody: no AUTH, no range, nothing local.

    With Postgres down and never seen, local recipients may yet come.
    """
    if settings.inbound_smtp_auth or not settings.relay_policy().is_loopback_only:
        return
    if recipients.patterns or recipients.may_be_unknown:
        return
    beyond = next((one.url for one in parse_listeners(settings) if not is_loopback(one.host)), None)
    if beyond is not None:
        raise BadSetting(
            f"smtp-range: holds no client beyond loopback, and there are no local recipients in Postgres, but {beyond} listens "
            "beyond it: expected the CIDRs of the clients that may send, inbound-smtp-auth, or local recipients "
            "(mailwarren locals add)"
        )


async def check_local_mail(settings: ServiceSettings, recipients: LocalRecipients) -> None:
    """Raise BadSetting when mail for local recipients would be sent to where their domains point: to ourselves.

    With Postgres down the rules cannot be seen: that is no reason not to take mail.
    """
    check_keys(settings)
    patterns = recipients.patterns
    if settings.rabbitmq_local or settings.local_routed or not patterns:
        return
    if not settings.db_uri:
        raise BadSetting(
            f"rabbitmq-local: empty, so mail for {patterns[0].text} would be sent to ourselves: {CURE}; "
            "where we cannot see the rules (db-uri is empty), say local-routed = true"
        )
    try:
        rules = await fetch_known_rules(settings)
    except Unavailable as error:
        log.warning("not checked whether a rule takes the mail for local recipients", reason=str(error))
        return
    lost = find_untaken(patterns, rules)
    if lost is not None:
        raise BadSetting(f"rabbitmq-local: empty, and no rule takes mail for {lost.text}; it would be sent to ourselves: {CURE}")


def check_keys(settings: ServiceSettings) -> None:
    """Raise BadSetting when a key for applications is one that our processes work from: mail would go out that shall not."""
    ours = {
        settings.rabbitmq_outbox: "rabbitmq-outbox",
        settings.rabbitmq_retries: "rabbitmq-retries",
        settings.rabbitmq_seal: "rabbitmq-seal",
        settings.rabbitmq_dsn: "rabbitmq-dsn",
        settings.rabbitmq_inbox: "rabbitmq-inbox",
        settings.rabbitmq_record: "rabbitmq-record",
        settings.rabbitmq_dead: "rabbitmq-dead",
    }
    for name in ("rabbitmq_local", "rabbitmq_reports", "rabbitmq_refused"):
        key = getattr(settings, name)
        if key and key in ours:
            raise BadSetting(f"{name.replace('_', '-')}: {key!r}: is {ours[key]}, too; expected a key that an application reads")


async def fetch_known_rules(settings: LocalSettings) -> list[Rule]:
    """The router's rules. One that cannot be read takes nothing. Raises Unavailable."""
    database = Database(settings, name="smtp-inbox starts")
    try:
        async with database.connection(within=PATIENCE) as connection:
            rows = await fetch_rules(connection)
    finally:
        await database.close()
    rules = []
    for row in rows:
        try:
            rules.append(parse_rule(row))
        except ValueError as error:
            log.warning("a rule cannot be read", reason=str(error))
    return order_rules(rules)


def find_untaken(patterns: Sequence[LocalPattern], rules: Sequence[Rule]) -> LocalPattern | None:
    """The first pattern whose mail, by these rules, would be sent where DNS says. Pure.

    A plain mail to an address that the pattern takes is the probe: a rule that asks for more (a subject, a sender) does not take all
    mail. Of a regular expression no address is known: no rule is seen to take it.
    """
    for pattern in patterns:
        if pattern.sample is None:
            return pattern
        probe = Message({"id": "probe", "channel": "smtp", "envelope": "", "recipient": pattern.sample, "size": 0})
        route = decide_route(probe, rules, default="smtp")
        is_elsewhere = route.rule is not None and "smarthost" in route.rule.rewrite
        if route.outbound[0] == "smtp" and not is_elsewhere:
            return pattern
    return None
