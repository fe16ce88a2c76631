"""DKIM signatures (RFC 6376; RSA-SHA256 by RFC 8301, Ed25519-SHA256 by RFC 8463): made and verified.

Works on octets: content with CRLF line ends, whatever else is in it.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from shared.mail.canonical import Canonicalization, Form, HeaderField, SplitContent, canonicalize_field, parse_canonicalization
from shared.mail.signing import Protocol, SigningRequest
from shared.mail.signing_keys import Algorithm, PrivateKey, PublicKey
from shared.mail.tags import empty_signature, parse_tags, remove_folding, render_signature, render_tags

DEFAULT_HEADERS = tuple(
    b"from sender reply-to to cc subject date message-id in-reply-to references"
    b" mime-version content-type content-transfer-encoding content-id content-description"
    b" resent-date resent-from resent-sender resent-to resent-cc resent-message-id"
    b" list-id list-help list-unsubscribe list-unsubscribe-post list-subscribe list-post list-owner list-archive"
    b" feedback-id".split()
)
"""Signed where they are present (RFC 6376 5.4.1; RFC 8058 4 for List-Unsubscribe-Post; Feedback-ID for Gmail's reports)."""
MOST_KNOWN = 50
"""Signatures of a mail that are looked through for our own."""
_REQUIRED_TAGS = frozenset([b"v", b"a", b"b", b"bh", b"d", b"h", b"s"])
_DEFAULT = Canonicalization(Form.SIMPLE, Form.SIMPLE)
"""Of a signature without ``c=`` (RFC 6376 3.5)."""


def sign(content: bytes, requests: Sequence[SigningRequest], *, now: datetime) -> bytes:
    """``content`` with one DKIM-Signature per request on top, in the order of the requests.

    Left out are requests for other protocols, those whose time is over, and those for a (domain, selector) that has signed the mail
    as it is; a signature of theirs that no longer holds does not count.
    """
    wanted = [request for request in requests if Protocol.DKIM in request.protocols and not request.is_over(now)]
    if not wanted:
        return content
    mail = SplitContent(content)
    signed = find_signatures(mail)
    fields = [render_dkim(mail, request, now=now) for request in wanted if not is_signed(mail, signed, request)]
    return b"".join([*fields, content]) if fields else content


def render_dkim(mail: SplitContent, request: SigningRequest, *, now: datetime) -> bytes:
    """The field DKIM-Signature for ``mail``, with its CRLF."""
    names = choose_headers(mail, request)
    form = request.canonicalization
    tags = [
        ("v", "1"),
        ("a", str(request.key.algorithm)),
        ("c", str(form)),
        ("d", request.domain),
        ("s", request.selector),
        ("t", str(int(now.timestamp()))),
    ]
    expires_at = request.expires_at(now)
    if expires_at is not None:
        tags.append(("x", str(int(expires_at.timestamp()))))
    tags.append(("h", render_names(names)))
    tags.append(("bh", base64.b64encode(mail.hash_body(form.body)).decode("ascii")))
    unsigned = render_tags("DKIM-Signature", tags)
    return complete(unsigned, mail.render_header(names, form.header), form.header, request.key)


def complete(unsigned: bytes, hashed: bytes, form: Form, key: PrivateKey) -> bytes:
    """The signature field ``unsigned``, which ends with ``b=``, signed over ``hashed`` and itself; with its CRLF."""
    digest = hashlib.sha256(hashed + canonicalize_field(unsigned, form)[:-2]).digest()
    return unsigned + render_signature(base64.b64encode(key.sign(digest)).decode("ascii")) + b"\r\n"


def choose_headers(mail: SplitContent, request: SigningRequest, also: Iterable[bytes] = ()) -> tuple[bytes, ...]:
    """The names for ``h=``: From in any case, each as often as present, oversigned ones once more."""
    names: list[bytes] = []
    for name in dict.fromkeys((*DEFAULT_HEADERS, *request.headers, *request.oversign, *also)):
        count = len(mail.named(name)) + (name in request.oversign)
        names += [name] * (count or name == b"from")
    return tuple(names)


def render_names(names: Iterable[bytes]) -> str:
    """The value of ``h=``."""
    return b":".join(names).decode("ascii")


def find_signatures(mail: SplitContent) -> list[tuple[HeaderField, Mapping[bytes, bytes]]]:
    """The mail's DKIM signatures that can be read, with their tags."""
    found: list[tuple[HeaderField, Mapping[bytes, bytes]]] = []
    for field in mail.named(b"dkim-signature")[:MOST_KNOWN]:
        try:
            found.append((field, parse_tags(field.raw.partition(b":")[2])))
        except ValueError:
            continue
    return found


def is_signed(
    mail: SplitContent, signatures: Sequence[tuple[HeaderField, Mapping[bytes, bytes]]], request: SigningRequest
) -> bool:
    """One of the signatures is of the request's domain and selector, and holds."""
    domain, selector = request.domain.encode(), request.selector.lower().encode()
    for field, tags in signatures:
        if tags.get(b"d", b"").lower() == domain and tags.get(b"s", b"").lower() == selector and tags.keys() >= _REQUIRED_TAGS:
            try:
                verify_signature(mail, field, tags, request.key.public)
            except ValueError:
                continue
            return True
    return False


def verify_signature(mail: SplitContent, field: HeaderField, tags: Mapping[bytes, bytes], key: PublicKey) -> None:
    """Check a DKIM-Signature or ARC-Message-Signature with its key (RFC 6376 6.1). Raises ValueError that says what is wrong.

    ``x=`` is not looked at.
    """
    canonicalization = parse_canonicalization(tags[b"c"].decode("latin-1")) if b"c" in tags else _DEFAULT
    names = tuple(name.lower() for name in remove_folding(tags[b"h"]).split(b":"))
    if b"from" not in names:
        raise ValueError("h= does not name From")
    length = tags.get(b"l")
    if length is not None and not (length.isdigit() and len(length) <= 20):
        raise ValueError("l= is no number")
    body = mail.hash_body(canonicalization.body, None if length is None else int(length))
    if body != decode_base64(tags[b"bh"]):
        raise ValueError("the body was changed")
    verify_field(field, mail.render_header(names, canonicalization.header), canonicalization.header, tags, key)


def verify_field(field: HeaderField, hashed: bytes, form: Form, tags: Mapping[bytes, bytes], key: PublicKey) -> None:
    """Check ``b=`` of a signature field over ``hashed`` and itself. Raises ValueError."""
    check_algorithm(tags, key)
    digest = hashlib.sha256(hashed + canonicalize_field(empty_signature(field.raw), form)[:-2]).digest()
    if not key.verify(digest, decode_base64(tags[b"b"])):
        raise ValueError("the signature does not match")


def check_algorithm(tags: Mapping[bytes, bytes], key: PublicKey) -> None:
    """``a=`` is what the key is for. Raises ValueError."""
    try:
        algorithm = Algorithm(tags[b"a"].decode("latin-1"))
    except ValueError:
        raise ValueError("a= is unknown") from None
    if algorithm is not key.algorithm:
        raise ValueError("a= is not what the key is for")


def decode_base64(value: bytes) -> bytes:
    """The octets of ``b=`` or ``bh=``. Raises ValueError."""
    try:
        return base64.b64decode(remove_folding(value), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
