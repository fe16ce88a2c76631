"""SMTP replies."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.reply import MAX_DESCRIPTION, InvalidReply, Reply, is_last_line, parse_reply


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([b"250 ok"], Reply(250, ("ok",))),
        ([b"250 ok\r\n"], Reply(250, ("ok",))),
        ([b"250"], Reply(250, ("",))),
        ([b"250 "], Reply(250, ("",))),
        ([b"250-mx.example", b"250-SIZE 100", b"250 HELP"], Reply(250, ("mx.example", "SIZE 100", "HELP"))),
        ([b"250-", b"250"], Reply(250, ("", ""))),
        ([b"571 no"], Reply(571, ("no",))),
        ([b"550 \xc3\xbc"], Reply(550, ("ü",))),
        ([b"550 \xfc"], Reply(550, ("ü",))),
        ([b"550  two spaces"], Reply(550, (" two spaces",))),
    ],
)
def test_replies(lines: list[bytes], reply: Reply) -> None:
    assert parse_reply(lines) == reply


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [b"ok"],
        [b"25 ok"],
        [b"2500 ok"],
        [b"150 ok"],
        [b"650 ok"],
        [b"+OK"],
        [b" 250 ok"],
        [b"250\tok"],
        [b"250_ok"],
        [b"HTTP/1.1 400 Bad Request"],
        [b"250-a", b"251 b"],
        [b"250-a"],
        [b"250 a", b"250 b"],
        [b"250-a", b""],
    ],
)
def test_what_is_no_reply(lines: list[bytes]) -> None:
    with pytest.raises(InvalidReply):
        parse_reply(lines)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(220, "positive"), (250, "positive"), (334, "intermediate"), (354, "intermediate"), (421, "temporary"), (550, "permanent")],
)
def test_every_code_is_of_one_kind(code: int, kind: str) -> None:
    reply = Reply(code, ("",))
    kinds = {name: getattr(reply, f"is_{name}") for name in ("positive", "intermediate", "temporary", "permanent")}
    assert [name for name, holds in kinds.items() if holds] == [kind]


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (250, "2.0.0 ok", "2.0.0"),
        (550, "5.1.1 no such user", "5.1.1"),
        (550, "5.1.1", "5.1.1"),
        (550, "5.1.1: no such user", "5.1.1"),
        (550, "5.7.509 no", "5.7.509"),
        (550, "5.01.001 no", "5.1.1"),
        (550, "4.2.1 no", None),
        (450, "5.1.1 no", None),
        (550, "no 5.1.1", None),
        (550, "5.1 no", None),
        (550, "5.1.1.2 no", None),
        (550, "5.1.1234 no", None),
        (354, "3.0.0 go", None),
        (550, "", None),
    ],
)
def test_enhanced_status_only_with_the_class_of_the_code(code: int, text: str, status: str | None) -> None:
    assert Reply(code, (text,)).enhanced_status == status


def test_text_is_the_peers_and_description_is_fit_to_print() -> None:
    reply = parse_reply([b"550-5.1.1 no\x1b[2J\x07", b"550 5.1.1 \x00such user"])
    assert reply.text == "5.1.1 no\x1b[2J\x07\n5.1.1 \x00such user"
    assert reply.description == "5.1.1 no[2J\n5.1.1 such user"
    assert str(reply) == "550 5.1.1 no[2J\n5.1.1 such user"
    assert len(parse_reply([b"550 " + b"x" * 5000]).description) == MAX_DESCRIPTION


def test_where_a_reply_ends() -> None:
    assert [is_last_line(line) for line in (b"250 a\r\n", b"250\r\n", b"250-a\r\n", b"junk", b"")] == [
        True,
        True,
        False,
        True,
        True,
    ]


@given(
    st.integers(200, 599),
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20), min_size=1, max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_what_is_sent_is_what_is_read(code: int, texts: list[str]) -> None:
    lines = [f"{code}{'-' if number < len(texts) else ' '}{text}\r\n".encode() for number, text in enumerate(texts, start=1)]
    assert parse_reply(lines) == Reply(code, tuple(texts))


@given(st.lists(st.binary(max_size=20), max_size=3))
@settings(max_examples=150, deadline=None)
def test_anything_else_is_an_invalid_reply(lines: list[bytes]) -> None:
    try:
        reply = parse_reply(lines)
    except InvalidReply:
        return
    assert 200 <= reply.code <= 599
    assert len(reply.lines) == len(lines)
