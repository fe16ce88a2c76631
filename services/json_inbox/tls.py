"""TLS of the HTTP interface: one context for all connections, its certificate replaced in place on SIGHUP."""

import ssl

from services.json_inbox.settings import ServiceSettings
from shared.log import get_logger
from shared.trouble import BadSetting

log = get_logger()


def open_tls(settings: ServiceSettings) -> ssl.SSLContext | None:
    """The context, or None without a certificate. Raises BadSetting."""
    return _load(_make_context(), settings) if settings.http_tls_public_key else None


def reload_certificate(context: ssl.SSLContext, settings: ServiceSettings) -> None:
    """Read the certificate again, for connections that come later. A bad one is logged, and the old one stays."""
    try:
        # First into a context that nobody uses: a certificate with the wrong key would leave the live one broken.
        _load(_make_context(), settings)
        _load(context, settings)
    except BadSetting as error:
        log.error("the certificate was not replaced", reason=str(error))
    else:
        log.info("certificate read again")


def _make_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, settings: ServiceSettings) -> ssl.SSLContext:
    public, private = settings.http_tls_public_key, settings.http_tls_private_key
    try:
        # An encrypted key must not ask on a terminal for its password.
        context.load_cert_chain(public, private, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise BadSetting(
            f"http-tls-public-key {public!r}, http-tls-private-key {private!r}: cannot be loaded: {reason}"
        ) from None
    return context
