"""The text made from HTML."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.html_text import render_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", "\n"),
        ("plain", "plain\n"),
        ("<p>one</p><p>two</p>", "one\n\ntwo\n"),
        ("<div>one</div><div>two</div>", "one\ntwo\n"),
        ("one<br>two<BR/>three", "one\ntwo\nthree\n"),
        ("<p>a  b\n\tc</p>", "a b c\n"),
        ("a <b>bold</b> word", "a bold word\n"),
        ("<head><title>no</title><style>p{}</style></head><body>yes<script>no()</script></body>", "yes\n"),
        ("<ul><li>one<li>two</ul>after", "- one\n- two\n\nafter\n"),
        ("<pre>a  b\n  c</pre>", "a  b\n  c\n"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a b\n"),
        ('<a href="https://x.de/">here</a>', "here (https://x.de/)\n"),
        ("<a href=https://x.de/>https://x.de/</a>", "https://x.de/\n"),
        ("<a href='mailto:a@b.de'>a@b.de</a>", "a@b.de\n"),
        ("<a href='javascript:x'>no</a>", "no\n"),
        ('<a href="https://x.de/"><img src="x" alt="Logo"></a>', "Logo (https://x.de/)\n"),
        ("&lt;b&gt; &amp; &uuml;&nbsp;&#8364;", "<b> & ü €\n"),
        ("a < b and b > c", "a < b and b > c\n"),
        ("a<!-- no <b> -->b", "ab\n"),
        ("a<!-- never closed <b>x</b>", "a\n"),
        ('a<b title="x>y">c</b>', "ac\n"),
        ("<![foo[ x ]]>a<?php x ?>b", "ab\n"),
        ("<!DOCTYPE html>a", "a\n"),
        ("<style>never closed", "\n"),
        ("a<b", "a\n"),
    ],
)
def test_text(html: str, text: str) -> None:
    assert render_text(html) == text


UNITS = ["<!--", "<a ", "<a href='", '<a "', "<![", "<", "<style>", "</", "&", "<p>", "<a href=x>", "\n "]
HOSTILE = [unit * (400_000 // len(unit)) for unit in UNITS] + [
    f"<a {'a' * 400_000}>",
    f"<a {'a =' * 100_000}>",
    f"<img {' ' * 400_000}>",
]


@pytest.mark.parametrize("html", HOSTILE, ids=lambda html: ascii(html[:12]))
def test_hostile_html_costs_no_more_than_long_html(html: str) -> None:
    began = time.process_time()
    render_text(html)
    assert time.process_time() - began < 2


@given(st.text(alphabet="<>/!-?ap br&;='\" \nstyle[]", max_size=200) | st.text(max_size=100))
@settings(max_examples=300, deadline=None)
def test_anything_becomes_lines(html: str) -> None:
    text = render_text(html)
    assert text.endswith("\n")
    assert "\n\n\n" not in text
