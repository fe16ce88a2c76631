"""Files of response patterns: read strictly, and told what is wrong with them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from shared.delivery.patterns import BounceClass
from shared.delivery.patterns_file import KEYS, load_patterns, parse_patterns, read_patterns, read_shipped
from shared.delivery.patterns_regex import compile_regex
from shared.trouble import BadSetting

ROOT = Path(__file__).resolve().parents[4]


def parse(entry: str) -> None:
    parse_patterns(f"[[pattern]]\n{entry}\n", "mine.toml")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("fatel = true", "mine.toml, pattern 1: 'fatel': unknown; expected one of name, priority, state,"),
        ('fatal = "yes"', "mine.toml, pattern 1: fatal: 'yes': expected true or false"),
        ("fatal = 1", "fatal: 1: expected true or false"),
        ('class = "bad"', "class: 'bad': expected one of bad-mailbox, bad-domain,"),
        ('class = ["quota"]', "class: ['quota']: expected one of"),
        ('fatal = true\nstate = "rcpt"', "state: 'rcpt': expected one of process, suppression,"),
        ('fatal = true\nresult = "accepted"', "result: 'accepted': expected one of timeout, lost, invalid, error"),
        ("fatal = true\ncode = 55", 'code: 55: expected an SMTP code such as 550, or "55x", "5xx" for any of them'),
        ("fatal = true\ncode = true", "code: True: expected an SMTP code"),
        ("fatal = true\ncode = []", "code: []: expected at least one value"),
        ('fatal = true\nstatus = "5.1"', "status: '5.1': expected an enhanced status code such as \"5.1.1\""),
        ('fatal = true\nstatus = "5.1.x"', "status: '5.1.x': expected an enhanced"),
        ('fatal = true\ntext = " * "', "text: ' * ': expected a text that the reply contains"),
        ("fatal = true\ntext = 5", "text: 5: expected a text"),
        (
            "fatal = true\nregex = '('",
            "regex: '(': missing ), unterminated subpattern at position 0; expected a regular expression",
        ),
        (
            "fatal = true\nregex = '(a+)+b'",
            "regex: '(a+)+b': a repeat, option or choice inside a repeated group may take for ever",
        ),
        ("fatal = true\nregex = ''", "regex: '': expected a regular expression of 1 to 1024 characters"),
        ('fatal = true\nsource = "192.0.2.1/24"', "source: '192.0.2.1/24': expected an IP address or a network"),
        ("fatal = true\nsource = 1", "source: 1: expected an IP address"),
        ('fatal = true\ndestination = ""', "destination: '': expected a text of 1 to 255 printable characters"),
        ("interval = 0", 'interval: 0: expected seconds such as 600, or "10m"'),
        ('interval = "soon"', "interval: 'soon': expected seconds"),
        ("interval = 99999999999", "interval: 99999999999: expected seconds"),
        ("interval = true", "interval: True: expected seconds"),
        ("tags = []", "tags: []: expected at least one value"),
        ("tags = [1]", "tags: [1]: expected a text of 1 to 255"),
        ("set = {}", "set: {}: expected a table of properties"),
        ("set = { code = 1 }", "set: {'code': 1}: code is a property that the result has of itself; expected another name"),
        ("set = { x = [1] }", "set: {'x': [1]}: x: expected a text, a number, true or false"),
        ("set = { x = nan }", "x: expected a text, a number, true or false"),
        ('set = { x = "\\u0000" }', "x: expected a text, a number, true or false"),
        ("set = { x = 9223372036854775808 }", "x: expected a text, a number, true or false"),
        ('fatal = true\npriority = "high"', "priority: 'high': expected a whole number"),
        ("code = 550", "mine.toml, pattern 1: says nothing; expected class, fatal,"),
    ],
)
def test_what_is_wrong_is_told(entry: str, told: str) -> None:
    with pytest.raises(BadSetting) as error:
        parse(entry)
    assert told in str(error.value)
    assert str(error.value).startswith("mine.toml, pattern 1: ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pattern = 1", "mine.toml: pattern: 1: expected [[pattern]]"),
        ("pattern = [1]", "mine.toml: pattern: [1]: expected [[pattern]]"),
        ("[[patterns]]\nfatal = true", "mine.toml: 'patterns': unknown; expected only [[pattern]]"),
        ("[[pattern]\n", "mine.toml: Expected ']]'"),
        ("[[pattern]]\nfatal = true\n" * 2001, "mine.toml: 2001 patterns: expected at most 2000"),
        ("[[pattern]]\nfatal = true\n[[pattern]]\nx = 1", "mine.toml, pattern 2: 'x': unknown"),
    ],
    ids=["number", "list of numbers", "misspelt", "no TOML", "too many", "the second"],
)
def test_a_file_that_is_none(text: str, told: str) -> None:
    with pytest.raises(BadSetting) as error:
        parse_patterns(text, "mine.toml")
    assert str(error.value).startswith(told)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"response-patterns: .*none.toml: No such file"):
        load_patterns(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(BadSetting, match=r"byte 3: not UTF-8"):
        read_patterns(tmp_path / "latin.toml")


def test_a_pattern_with_everything() -> None:
    [pattern] = parse_patterns(
        """[[pattern]]
        name = "all"
        priority = -1
        state = "rcptto"
        result = "error"
        code = ["45x", 550]
        status = "*.1.1"
        text = ["a  B*c"]
        regex = 'x'
        destination = "b.example"
        host = "mx.example"
        source = "192.0.2.1"
        tag = "t"
        class = "quota"
        fatal = true
        individual = false
        greylisted = true
        strange = true
        fallback = false
        interval = "10m"
        tags = "x"
        set = { team = "abuse", is_odd = true, share = 0.5 }
        """,
        "mine.toml",
    )
    assert set(KEYS) - {"name", "priority"} == {*pattern.written, "class", "fatal", "individual", "greylisted", "strange",
                                                "fallback", "interval", "tags", "set"}  # fmt: skip
    assert pattern.priority == -1
    assert pattern.conditions.codes == {*range(450, 460), 550}
    assert pattern.conditions.texts == (("a b", "c"),)
    match = pattern.match
    assert (match.bounce_class, match.interval, match.tags) == (BounceClass.QUOTA, timedelta(minutes=10), ("x",))
    assert match.flags == {"fatal": True, "individual": False, "greylisted": True, "strange": True, "fallback": False}
    assert match.properties == {"team": "abuse", "is_odd": True, "share": 0.5}


def test_a_file_of_ones_own_comes_before_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[[pattern]]\nclass = "policy"\n[[pattern]]\nclass = "quota"\npriority = 1\n')
    files = [pattern.match.file for pattern in load_patterns(str(tmp_path / "mine.toml")).patterns]
    assert files == [str(tmp_path / "mine.toml"), *["patterns.toml"] * len(read_shipped()), str(tmp_path / "mine.toml")]


@pytest.mark.parametrize(
    "regex",
    ["(a+)+$", "(a|aa)+$", ".*a.*b", "(a?){30}", "(a|a){30}b", "((a|a){3}){3}b", "(a|a)" * 20, "a?" * 30 + "a" * 30, "x*x*x*x*x*y",
     "(?:a{1,30}){1,30}b", "(.*)\\1x", "a{99999999999}", "[", "(?P<x"],
)  # fmt: skip
def test_an_expression_that_may_be_slow_is_refused(regex: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        compile_regex(regex)


@pytest.mark.parametrize(
    "regex",
    [
        r"^5\.7\.1 .*blocked",
        r"^(?:\d{1,3}\.){3}\d{1,3}$",
        "spam|junk",
        r"\bS\d{4}\b",
        "[(a+)+]",
        r"^(foo|bar|baz) \d+",
        r"\(\+\)",
    ],
)
def test_a_plain_expression_is_taken(regex: str) -> None:
    assert compile_regex(regex).search("XYZ") is None


def test_the_page_names_every_key_and_class() -> None:
    page = (ROOT / "docs" / "patterns.md").read_text()
    assert [name for name in (*KEYS, *BounceClass) if f"`{name}`" not in page] == []


def test_the_example_of_the_page_is_right() -> None:
    page = (ROOT / "docs" / "patterns.md").read_text()
    example = page.partition("```toml\n")[2].partition("```")[0]
    assert len(parse_patterns(example, "page")) == 2
