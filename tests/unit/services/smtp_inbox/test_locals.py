"""The local recipients of the settings, their files, and what is left of Postgres without Postgres."""

import os
from pathlib import Path

import pytest

from services.smtp_inbox.locals import LOOK_EVERY, LocalRecipients, LocalTable
from services.smtp_inbox.settings import ServiceSettings
from shared.settings import load
from shared.trouble import BadSetting

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in ServiceSettings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)


class Clock:
    """Seconds that pass when we say so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def recipients(clock: Clock | None = None, /, **options: str) -> LocalRecipients:
    return LocalRecipients(load(ServiceSettings, options=options).settings, clock=clock or Clock())


def test_by_default_nothing_is_local() -> None:
    assert not recipients().hold("a@example.com")
    assert recipients().patterns == []


def test_domains_and_addresses_of_the_settings() -> None:
    known = recipients(local_domains="example.com, *.example.org", local_addresses="info@example.net,/b[0-9]@example\\.net/")
    for address in ("a@EXAMPLE.com", "a@x.example.org", "info@example.net", "b7@example.net", '"info"@example.net'):
        assert known.hold(address)
    for address in ("a@example.org", "inf@example.net", "b77@example.net", "nonsense", "a@b@example.com", ""):
        assert not known.hold(address)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"local_domains": "*"}, r"local-domains: '\*': would take the domains of strangers"),
        ({"local_domains": "a@example.com"}, "local-domains: 'a@example.com': expected a domain"),
        ({"local_domains": "exa mple"}, "local-domains: 'exa mple': "),
        ({"local_addresses": "example.com"}, "local-addresses: 'example.com': expected an address"),
        ({"local_addresses": "/.*/"}, "local-addresses: '/.*/': would take the addresses of strangers"),
        ({"local_addresses": "@/no/such/file"}, "local-addresses: '@/no/such/file': No such file"),
        ({"local_domains": "@/"}, "local-domains: '@/': Is a directory"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_a_mistake_names_setting_and_value(options: dict[str, str], reason: str) -> None:
    with pytest.raises(BadSetting, match=reason):
        recipients(**options)


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path, clock = tmp_path / "addresses", Clock()
    path.write_text("# ours\n\n info@example.com \n/a{1,2}@example\\.com/\n")
    known = recipients(clock, local_addresses=f"@{path},b@example.org")
    assert [known.hold(address) for address in ("info@example.com", "aa@example.com", "b@example.org", "c@example.com")] == [
        True,
        True,
        True,
        False,
    ]
    path.write_text("c@example.com\n")
    assert not known.hold("c@example.com")
    clock.now += LOOK_EVERY
    assert known.hold("c@example.com")
    assert not known.hold("info@example.com")

    path.write_text("d@example.com\nno address\n")
    clock.now += LOOK_EVERY
    assert known.hold("c@example.com"), "what cannot be read leaves the last ones in force"
    path.unlink()
    known.reload()
    assert known.hold("c@example.com")
    path.write_text("e@example.com\n")
    os.utime(path, ns=(1, 1))
    known.reload()
    assert known.hold("e@example.com")


def test_a_mistake_in_a_file_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "domains"
    path.write_text("example.com\n\n*.com\n")
    with pytest.raises(BadSetting, match=rf"local-domains: {path}, line 3: '\*\.com': would take"):
        recipients(local_domains=f"@{path}")
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(BadSetting, match="byte 4: not UTF-8"):
        recipients(local_domains=f"@{path}")


async def test_without_postgres_those_of_the_settings_and_those_last_seen_count(tmp_path: Path) -> None:
    path = tmp_path / "locals.json"
    options = {"db_uri": NOWHERE, "locals_snapshot": str(path), "local_domains": "example.com"}
    known = recipients(**options)
    assert known.may_be_unknown
    await known.load()
    assert known.hold("a@example.com")
    assert not known.hold("a@example.org")
    assert known.may_be_unknown

    table = LocalTable(path)
    table.take([{"name": "example.org", "reason": "ours", "created_at": 1, "updated_at": 1}, {"name": "no pattern"}])
    again = recipients(**options)
    await again.load()
    assert again.hold("a@example.org")
    assert not again.may_be_unknown
    assert [pattern.text for pattern in again.patterns] == ["example.com", "example.org"]
