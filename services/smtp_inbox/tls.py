"""TLS of the inbox: one context for all connections, its certificate replaced in place on SIGHUP."""

import os
import ssl
import tempfile
from contextlib import ExitStack
from pathlib import Path

from services.smtp_inbox.settings import ServiceSettings
from shared.log import get_logger
from shared.trouble import BadSetting

log = get_logger()


def open_tls(settings: ServiceSettings) -> ssl.SSLContext | None:
    """The context, or None when inbound-smtp-tls is off. Raises BadSetting."""
    if not settings.inbound_smtp_tls:
        return None
    context = _make_context()
    load_certificate(context, settings)
    return context


def reload_certificate(context: ssl.SSLContext, settings: ServiceSettings) -> None:
    """Read the certificate again, for connections that come later. A bad one is logged, and the old one stays."""
    try:
        # First into a context that nobody uses: a certificate with the wrong key would leave the live one broken.
        load_certificate(_make_context(), settings)
        load_certificate(context, settings)
    except BadSetting as error:
        log.error("the certificate was not replaced", reason=str(error))
    else:
        log.info("certificate read again")


def load_certificate(context: ssl.SSLContext, settings: ServiceSettings) -> None:
    """Load certificate chain and private key into the context. Raises BadSetting."""
    public, private = settings.inbound_smtp_tls_public_key, settings.inbound_smtp_tls_private_key.get_secret_value()
    for name, value in (("public", public), ("private", private)):
        if not value:
            raise BadSetting(
                f"inbound-smtp-tls-{name}-key: missing; expected PEM or a file that holds it, because inbound-smtp-tls is on"
            )
    with ExitStack() as stack:
        certificate, key = (_as_file(value, stack) for value in (public, private))
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            shown = "given as text" if certificate != public else repr(public)
            raise BadSetting(
                f"inbound-smtp-tls-public-key {shown}, inbound-smtp-tls-private-key: cannot be loaded: {reason}"
            ) from None


def _make_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _no_password() -> bytes:
    # Without this OpenSSL asks on the terminal, and the process would wait for ever.
    raise ValueError("the private key is encrypted; expected one without a password")


def _as_file(value: str, stack: ExitStack) -> str:
    """The path of a file that holds the PEM; the library reads files only."""
    if not value.lstrip().startswith("-----BEGIN"):
        return value
    handle, name = tempfile.mkstemp(prefix="mailwarren-", suffix=".pem")
    stack.callback(Path(name).unlink)
    with os.fdopen(handle, "w") as file:
        # A key in the environment often has its newlines written as \n.
        file.write(value.replace("\\n", "\n"))
    return name
