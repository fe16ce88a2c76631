"""Hashes of passwords: ours, and those that other tools write."""

import pytest

from services.smtp_inbox.passwords import Scheme, hash_password, make_unknown_hash, parse_hash

VECTOR = "/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA"  # RFC 7914 12, N=1024


@pytest.mark.parametrize("scheme", list(Scheme), ids=str)
def test_a_password_has_its_hash_and_no_other(scheme: Scheme) -> None:
    made = hash_password("gehäim", scheme)
    read = parse_hash(made.text)
    assert read == made
    assert read.verify("gehäim")
    assert not read.verify("geheim")


@pytest.mark.parametrize(
    ("text", "password"),
    [
        pytest.param(f"$scrypt$ln=10,r=8,p=16$TmFDbA${VECTOR}", "password", id="scrypt, RFC 7914"),
        pytest.param("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U", id="bcrypt, crypt_blowfish"),
        pytest.param("$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U", id="bcrypt, htpasswd"),
    ],
)
def test_what_others_have_hashed(text: str, password: str) -> None:
    assert parse_hash(text).verify(password)
    assert not parse_hash(text).verify(password + "x")


def test_bcrypt_tells_no_more_than_72_octets_apart_so_longer_ones_are_never_right() -> None:
    text = "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui"
    assert parse_hash(text).verify("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    assert not parse_hash(text).verify(
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789chars after 72 are ignored"
    )
    with pytest.raises(ValueError, match="no password of more than 72 octets"):
        hash_password("ä" * 37, Scheme.BCRYPT)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "expected a hash", id="nothing"),
        pytest.param("geheim", "expected a hash", id="clear text"),
        pytest.param("$apr1$abcdefgh$0123456789012345678901", "expected a hash", id="htpasswd's MD5"),
        pytest.param("$2b$12$tooshort", "expected a hash", id="bcrypt cut off"),
        pytest.param("$2b$31$" + "C" * 53, "cost from 4 to 15", id="bcrypt for days"),
        pytest.param(f"$scrypt$ln=20,r=8,p=1$TmFDbA${VECTOR}", "at most 128 MB", id="scrypt, a gigabyte"),
        pytest.param(f"$scrypt$ln=14,r=8,p=99$TmFDbA${VECTOR}", "at most 128 MB", id="scrypt for long"),
        pytest.param(f"$scrypt$ln=99,r=8,p=1$TmFDbA${VECTOR}", "at most 128 MB", id="scrypt, beyond all"),
        pytest.param(f"$scrypt$ln=0,r=8,p=1$TmFDbA${VECTOR}", "at most 128 MB", id="scrypt, nothing"),
    ],
)
def test_what_is_no_hash_of_ours_is_refused_and_not_shown(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_hash(text)
    assert not text or text not in str(caught.value)


def test_every_hash_has_a_salt_of_its_own() -> None:
    assert hash_password("geheim").text != hash_password("geheim").text
    assert make_unknown_hash().text != make_unknown_hash().text
    assert not make_unknown_hash().verify("")
