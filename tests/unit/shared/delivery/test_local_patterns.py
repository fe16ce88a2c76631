"""Which recipients are local."""

import time

import pytest

from shared.delivery.local_patterns import (
    MOST_REGEXES,
    MOST_WILDCARDS,
    Kind,
    fold_local_name,
    index_patterns,
    parse_local,
    parse_local_pattern,
)
from shared.mail.address import parse_mailbox

TABLE = [
    (
        "example.com",
        ["a@example.com", "A.b+c@EXAMPLE.com", '"a b"@example.com'],
        ["a@example.org", "a@sub.example.com", "a@xexample.com"],
    ),
    ("Example.COM", ["a@example.com"], ["a@example.org"]),
    ("*@example.com", ["a@example.com"], ["a@sub.example.com"]),
    ("*.example.com", ["a@b.example.com", "a@c.b.EXAMPLE.com"], ["a@example.com", "a@b.example.com.org"]),
    ("m*.example.com", ["a@mx1.example.com", "a@m.x.example.com"], ["a@a.example.com"]),
    ("bücher.example", ["a@bücher.example", "a@xn--bcher-kva.example", "a@BÜCHER.example"], ["a@bucher.example"]),
    ("*.bücher.example", ["a@b.xn--bcher-kva.example"], ["a@xn--bcher-kva.example"]),
    ("straße.example", ["a@straße.example", "a@xn--strae-oqa.example"], ["a@strasse.example"]),
    ("[192.0.2.1]", ["a@[192.0.2.1]"], ["a@[192.0.2.2]"]),
    (
        "Info@example.com",
        ["info@example.com", "INFO@Example.Com", '"info"@example.com', '"in\\fo"@example.com'],
        ["inf@example.com"],
    ),
    ("grüße@example.com", ["grüße@example.com", "GRÜßE@example.com", "gru\u0308ße@example.com"], ["grusse@example.com"]),
    (
        "bounce-*@example.com",
        ["bounce-@example.com", "BOUNCE-a=b.org@example.com"],
        ["xbounce-a@example.com", "bounce-a@example.org"],
    ),
    ("*+*@*.example.com", ["a+b@c.example.com"], ["ab@c.example.com", "a+b@example.com"]),
    ("/(sales|info)@example\\.com/", ["sales@example.com", "INFO@example.com"], ["sales@example.com.org", "xsales@example.com"]),
    ("/[a-z]{1,3}@example\\.com/", ["abc@example.com"], ["abcd@example.com", "1@example.com"]),
    ("/.*-bounce@.*\\.example\\.com/", ["a.b-bounce@c.example.com"], ["a-bounce@example.com"]),
    ("/a@example\\.com|b@example\\.org/", ["a@example.com", "b@example.org"], ["xb@example.org", "a@example.comx"]),
    ("/sales@example.com/", ["sales@example.com", "sales@examplexcom"], ["a@b.c"]),
    ("*.example.co.uk", ["a@b.example.co.uk"], ["a@example.co.uk", "a@other.co.uk"]),
    ("co.uk", ["a@co.uk"], ["a@example.co.uk"]),
    ("*.www.ck", ["a@b.www.ck"], ["a@b.c.ck"]),
    ("/.*@(.*\\.)?example\\.co\\.uk/", ["a@example.co.uk", "a@b.example.co.uk"], ["a@xexample.co.uk"]),
    ("/[a-z]+@(example|sample)\\.(com|fr)/", ["a@example.fr", "a@sample.com"], ["a@x.fr"]),
]


@pytest.mark.parametrize(("pattern", "local", "foreign"), TABLE, ids=[row[0] for row in TABLE])
def test_what_a_pattern_takes(pattern: str, local: list[str], foreign: list[str]) -> None:
    held = index_patterns([parse_local_pattern(pattern)])
    assert [address for address in local if not held.hold(parse_mailbox(address))] == []
    assert [address for address in [*foreign, "x@foreign.example"] if held.hold(parse_mailbox(address))] == []


def test_many_patterns_at_once() -> None:
    patterns = [parse_local_pattern(text) for text, *_ in TABLE]
    held = index_patterns(patterns)
    for _, local, _ in TABLE:
        assert all(held.hold(parse_mailbox(address)) for address in local)
    assert not index_patterns([]).hold(parse_mailbox("a@example.com"))


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "expected a pattern"),
        ("x" * 1025, "expected a pattern"),
        ("*", "domains of strangers"),
        ("*@*", "domains of strangers"),
        ("*.com", "domains of strangers"),
        ("*.*.com", "domains of strangers"),
        ("a@*", "domains of strangers"),
        ("postmaster@*.org", "domains of strangers"),
        ("*@*.exam*.com", "domains of strangers"),
        ("*xample.com", "domains of strangers"),
        ("[*]", "address literal"),
        ("*.co.uk", r"anybody can have a domain below co\.uk; .* such as \*\.example\.co\.uk"),
        ("*.com.br", "domains of strangers"),
        ("*.github.io", "domains of strangers"),
        ("mx*.co.uk", "domains of strangers"),
        ("*shop.co.uk", "domains of strangers"),
        ("bounce-*@*.co.uk", "domains of strangers"),
        ("*.*.co.uk", "domains of strangers"),
        ("*.公司.cn", r"below xn--55qx5d\.cn"),
        ("*.anything.ck", "domains of strangers"),
        ("*.example", "domains of strangers"),
        ("/.*/", "addresses of strangers"),
        ("/.+@.+/", "addresses of strangers"),
        ("/postmaster@.*/", "addresses of strangers"),
        ("/.*@.*\\.com/", "addresses of strangers"),
        ("/[^@]+@[a-z0-9.-]+\\.(org|net)/", "addresses of strangers"),
        ("/info@.*/", "addresses of strangers"),
        ("/.*@.*\\.fr/", r"addresses of strangers, such as q@q\.fr"),
        ("/.*@.*.fr/", "addresses of strangers"),
        ("/.*@.*\\.gouv\\.fr/", "addresses of strangers"),
        ("/.*@[^.]+\\.(fr|co\\.uk)/", "addresses of strangers"),
        ("/(sales@example\\.com|info@.*\\.FR)/", "addresses of strangers"),
        ("/no-probe-[0-9]{3}=x@.*\\.fr/", r"strangers, such as …@q\.fr"),
        ("/.*-bounce@.*\\.github\\.io/", "addresses of strangers"),
        ("/[0-9]+@.*/", "addresses of strangers"),
        ("/.*@.*example\\.com/", r"strangers, such as q@qx7vzkexample\.com"),
        ("/.*@.*example\\.co\\.uk/", "addresses of strangers"),
        ("/|x@example\\.com/", None),
        ("/(a+)+@example\\.com/", "may take for ever"),
        ("/a@example.com", "between slashes"),
        ("//", "between slashes"),
        ("/(/", "missing|unterminated"),
        ("@example.com", "expected local-part@domain"),
        ("a@", "domain is missing"),
        ("a@b@example.com", "more than one @"),
        ("a b@example.com", "local part"),
        ("exa mple.com", "letters, digits and hyphens"),
        ("example..com", "empty label"),
        ('"a*b"@example.com', "no wildcard in an address with quotes"),
        ("a\r\n@example.com", "control"),
        ("192.0.2.1", "ends in a number"),
    ],
)
def test_a_pattern_that_is_refused(pattern: str, reason: str | None) -> None:
    if reason is None:
        assert not index_patterns([parse_local_pattern(pattern)]).hold(parse_mailbox("a@foreign.example"))
        return
    with pytest.raises(ValueError, match=reason):
        parse_local_pattern(pattern)


@pytest.mark.parametrize("text", ["a@example.com", "/a@example\\.com/"])
def test_only_domains_where_domains_are_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected a domain"):
        parse_local_pattern(text, domains_only=True)
    assert parse_local_pattern("Example.com", domains_only=True).kind is Kind.DOMAIN


@pytest.mark.parametrize(
    ("text", "folded", "sample"),
    [
        ("Example.COM", "example.com", "x@example.com"),
        ("*@Example.COM", "example.com", "x@example.com"),
        ("Info@BÜCHER.example", "info@xn--bcher-kva.example", "info@xn--bcher-kva.example"),
        ("A-*@*.Example.com", "a-*@*.example.com", "a-x@x.example.com"),
        ("*.example.com", "*@*.example.com", "x@x.example.com"),
        ("/A@example\\.com/", "/A@example\\.com/", None),
    ],
)
def test_one_spelling_and_a_sample_that_it_takes(text: str, folded: str, sample: str | None) -> None:
    pattern = parse_local_pattern(text)
    assert (pattern.text, pattern.sample) == (folded, sample)
    assert fold_local_name(text) == folded == fold_local_name(folded)
    if sample is not None:
        assert index_patterns([pattern]).hold(parse_mailbox(sample))


@pytest.mark.parametrize("name", ["*@*.Co.uk", "/.*@.*\\.fr/", "a@*.github.io"])
def test_what_is_in_the_table_can_be_removed_although_it_is_refused_today(name: str) -> None:
    with pytest.raises(ValueError, match="strangers"):
        parse_local({"name": name})
    assert fold_local_name(f" {name} ") == (name if name.startswith("/") else name.lower())


def test_an_entry_of_the_table() -> None:
    entry = parse_local({"name": "Example.com", "reason": "ours", "created_at": 7})
    assert (entry.name, entry.document) == ("example.com", {"reason": "ours"})
    assert parse_local({"name": "a@example.com"}).document == {}
    for document, field in (
        ({}, "name"),
        ({"name": 7}, "name"),
        ({"name": "*"}, "name"),
        ({"name": "example.com", "reason": 7}, "reason"),
        ({"name": "example.com", "reason": "a\nb"}, "reason"),
        ({"name": "example.com", "reason": "x" * 1025}, "reason"),
    ):
        with pytest.raises(ValueError, match=f"^{field}: "):
            parse_local(document)


def test_too_many_of_those_that_cannot_be_filed() -> None:
    with pytest.raises(ValueError, match="regular expressions: expected at most"):
        index_patterns(parse_local_pattern(f"/a{number}@example\\.com/") for number in range(MOST_REGEXES + 1))
    with pytest.raises(ValueError, match="domains with wildcards: expected at most"):
        index_patterns(parse_local_pattern(f"*.a{number}.example") for number in range(MOST_WILDCARDS + 1))


def test_a_look_up_is_fast_with_many_patterns() -> None:
    many = [parse_local_pattern(f"user{number}-*@d{number % 500}.example") for number in range(5000)]
    many += [parse_local_pattern(f"*.w{number}.example") for number in range(MOST_WILDCARDS)]
    many += [parse_local_pattern(f"/[a-z]+-{number}@example\\.com/") for number in range(MOST_REGEXES)]
    held = index_patterns(many)
    longest = parse_mailbox("a" * 64 + "@" + ".".join(["a" * 60] * 4))
    began = time.thread_time()
    for _ in range(20):
        assert not held.hold(longest)
    assert time.thread_time() - began < 1
