"""The bearer tokens in force, as this process last saw them (``shared.storage.snapshot``): mail is accepted while Postgres is down."""

import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Gauge

from services.json_inbox.settings import ServiceSettings
from shared.log import get_logger
from shared.storage.database import Connection
from shared.storage.documents import fetch_documents
from shared.storage.snapshot import Snapshot
from shared.storage.tokens import TABLE, Token, digest_token, parse_token

log = get_logger()

TOKENS = Gauge("json_inbox_tokens", "Bearer tokens in force")
FRESH = Gauge("json_inbox_tokens_fresh", "1 while the tokens follow Postgres, 0 while the last snapshot is used")


class TokenBook(Snapshot[Token]):
    """Finds tokens. A row that cannot be read is a token that does not exist: it must not keep a removed one in force."""

    what, table, count, fresh = "tokens", TABLE, TOKENS, FRESH

    def __init__(self, settings: ServiceSettings) -> None:
        super().__init__(settings.tokens_snapshot)
        self._indexed: tuple[list[Token], Mapping[str, Token]] | None = None

    async def fetch(self, connection: Connection) -> Sequence[Mapping[str, Any]]:
        """The rows."""
        return await fetch_documents(connection, self.table)

    def parse(self, documents: Sequence[Mapping[str, Any]]) -> list[Token]:
        """Those that can be read."""
        tokens = []
        for document in documents:
            try:
                tokens.append(parse_token(document))
            except ValueError as error:
                log.error("a token cannot be read: it lets nobody in", token=str(document.get("name"))[:80], reason=str(error))
        return tokens

    def render(self, item: Token) -> Mapping[str, Any]:
        """A token as it is kept on disk: its digest, too, is all that is known here."""
        return {"name": item.name, **item.document}

    def find(self, text: str, *, now: datetime | None = None) -> Token | None:
        """The token that ``text`` is, unless it has expired. Raises Unavailable when no tokens were ever seen."""
        items = self.items
        if self._indexed is None or self._indexed[0] is not items:
            self._indexed = items, {token.digest: token for token in items}
        digest = digest_token(text)
        # The time of a look-up by digest says nothing about a token; what decides is compared in constant time.
        token = self._indexed[1].get(digest)
        if token is None or not hmac.compare_digest(token.digest, digest):
            return None
        return token if token.expires is None or (now or datetime.now(UTC)) < token.expires else None
