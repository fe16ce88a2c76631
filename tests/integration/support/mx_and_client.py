"""An MX and a client, for the tests of both files about the MX."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.mx import MxOptions, Script, ScriptedMx
from tests.support.wire_client import WireClient


@asynccontextmanager
async def mx_and_client(
    folder: Path,
    *,
    options: MxOptions | None = None,
    script: Script | None = None,
    connection: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[ScriptedMx, WireClient]]:
    """An MX and one connected client that has not read the greeting."""
    async with (
        ScriptedMx(folder, options=options, script=script, connection=connection, tls=tls) as mx,
        WireClient(mx.host, mx.port) as client,
    ):
        yield mx, client
