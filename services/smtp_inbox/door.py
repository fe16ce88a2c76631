"""What all connections of the process share: who is in, how much they may hold, where mail goes."""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.smtp_inbox.keeping import Budget, Streaming
from services.smtp_inbox.locals import LocalRecipients
from services.smtp_inbox.login import Authenticator
from services.smtp_inbox.metrics import SESSIONS
from services.smtp_inbox.proxy import Proxies, Remote
from services.smtp_inbox.refused import RefusedMail
from services.smtp_inbox.relay import RelayPolicy, normalize_address
from services.smtp_inbox.settings import ServiceSettings
from shared.acceptance import Acceptance
from shared.amqp.accepting import AcceptingPublisher

if TYPE_CHECKING:
    from services.smtp_inbox.conversation import Conversation


@dataclass(slots=True)
class Peer:
    """One client address."""

    budget: Budget
    connections: int = 0


@dataclass(slots=True)
class Door:
    """One per process."""

    settings: ServiceSettings
    policy: RelayPolicy
    tls: ssl.SSLContext | None
    acceptance: Acceptance
    publisher: AcceptingPublisher
    local: LocalRecipients
    refused: RefusedMail = field(init=False)
    proxies: Proxies = field(init=False)
    authenticator: Authenticator | None = None
    """None: there is no AUTH."""
    streaming: Streaming | None = None
    """Where large content goes as it comes; None: it stays in memory."""
    peers: dict[str, Peer] = field(default_factory=dict)
    present: "set[Conversation]" = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """The conversations; one may outlast its connection, to take a mail whose client has left."""
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(self.settings.inbound_smtp_max_memory)
        self.proxies = self.settings.proxies()
        self.refused = RefusedMail(
            self.publisher.publish_unconfirmed, self.settings.rabbitmq_refused, self.settings.refused_max_content
        )

    @property
    def hostname(self) -> str:
        """Our name."""
        return self.settings.inbound_smtp_public_hostname

    @property
    def trouble(self) -> str | None:
        """Why no mail can be accepted now; None: it can."""
        return self.publisher.trouble

    def enter(self, task: asyncio.Task[None]) -> None:
        """Remember a conversation until it ends."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def admit(self, conversation: "Conversation") -> str:
        """Count the client in. Returns the reply when there are too many already, else ""."""
        if conversation.remote is None:
            address = conversation.transport.get_extra_info("peername")
            try:
                conversation.remote = Remote(str(normalize_address(address[0])), address[1])
            except (ValueError, TypeError, IndexError):
                return "421 4.7.0 No IP address, no conversation"
        conversation.client = conversation.remote.ip
        self.present.add(conversation)
        SESSIONS.set(len(self.present))
        peer = self.peers.get(conversation.client)
        if peer is None:
            # Two mails of the largest size, or many small ones.
            peer = self.peers[conversation.client] = Peer(Budget(2 * self.settings.inbound_smtp_max_size))
        peer.connections += 1
        if len(self.present) > self.settings.inbound_smtp_max_connections:
            return "421 4.3.2 Too many connections, come again"
        if peer.connections > self.settings.inbound_smtp_max_connections_per_address:
            return "421 4.7.0 Too many connections from your address"
        return ""

    def leave(self, conversation: "Conversation") -> None:
        """Count the client out. Safe to repeat."""
        if conversation not in self.present:
            return
        self.present.discard(conversation)
        SESSIONS.set(len(self.present))
        peer = self.peers[conversation.client]
        peer.connections -= 1
        self._forget(conversation.client)

    def budgets(self, conversation: "Conversation") -> tuple[Budget, ...]:
        """What bounds the content that this client sends."""
        peer = self.peers.get(conversation.client)
        return (self.budget, peer.budget) if peer else (self.budget,)

    def _forget(self, client: str) -> None:
        if not self.peers[client].connections:
            del self.peers[client]
