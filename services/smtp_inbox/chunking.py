"""BDAT: the content in chunks of a size that is said before, without dots (RFC 3030, CHUNKING).

The content is what the chunks hold: nothing is appended to one that does not end in CRLF (whoever sends it on with DATA ends the
last line, as DATA cannot do without). A chunk that is refused is read to its end all the same, and thrown away: what follows a
BDAT line is never read as commands. After that no part of the mail is taken.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.smtp_inbox.arguments import ChunkArgument, Refusal, parse_chunk
from services.smtp_inbox.keeping import ContentKeeper, Verdict
from services.smtp_inbox.mailing import Intake, conclude, ending, open_intake, tell_content
from services.smtp_inbox.taking import decide_refusal
from shared.log import get_logger

if TYPE_CHECKING:
    from services.smtp_inbox.conversation import Conversation

log = get_logger()


class ChunkReader:
    """Takes chunks in whatever pieces the network delivers, and hands them to a keeper, or throws them away."""

    def __init__(self, keeper: ContentKeeper | None) -> None:
        self.keeper = keeper
        self.left = 0
        """Octets of the chunk that are still to come."""
        self.received = 0
        """Octets that came from the network, in all chunks."""

    def feed(self, data: bytes) -> bytes | None:
        """Take what came. Returns None: there is more to come; else what stands behind the end of the chunk."""
        piece = data[: self.left]
        self.left -= len(piece)
        self.received += len(piece)
        if self.keeper is not None:
            self.keeper.keep(piece)
        return None if self.left else data[len(piece) :]


@dataclass(frozen=True, slots=True)
class Chunked:
    """A mail of which some chunks are here."""

    intake: Intake
    reader: ChunkReader


async def bdat(conversation: "Conversation", argument: str) -> None:
    """RFC 3030 2."""
    try:
        chunk = parse_chunk(argument)
    except Refusal as refusal:
        # Where the chunk ends is not known: what it holds would be read as commands.
        conversation.end(str(refusal))
    if not chunk.size and not chunk.is_last:
        conversation.count_junk()
    chunked = _begin(conversation)
    if isinstance(chunked, str):
        await _throw_away(conversation, chunk, chunked)
    elif not chunk.is_last:
        await _read(conversation, chunked.reader, chunk)
        _answer(conversation, chunked, chunk)
    else:
        async with ending(conversation):
            await _read(conversation, chunked.reader, chunk)
            chunked.intake.keeper.finish()
            await conclude(conversation, chunked.intake)


def _begin(conversation: "Conversation") -> Chunked | str:
    """The mail that the chunk belongs to, or the reply that refuses it."""
    transaction = conversation.transaction
    if not conversation.said.extended_smtp:
        return "503 5.5.1 BDAT needs EHLO"
    if transaction.mail is None:
        return "503 5.5.1 MAIL comes first"
    if transaction.refused:
        # Not 503: a client that looks at the last reply alone must not take a temporary refusal for a permanent one.
        return transaction.refused
    if not transaction.recipients:
        return "554 5.5.1 No valid recipients"
    if transaction.chunked is None:
        intake = open_intake(conversation, transaction.mail, list(transaction.recipients.values()))
        transaction.chunked = Chunked(intake, ChunkReader(intake.keeper))
    return transaction.chunked


async def _read(conversation: "Conversation", reader: ChunkReader, chunk: ChunkArgument) -> None:
    reader.left = chunk.size
    if chunk.size:
        timeout = conversation.settings.inbound_smtp_idle_timeout.total_seconds()
        await conversation.read_content(reader, timeout, goes_on=not chunk.is_last)
    if chunk.is_last:
        conversation.forget_content()


def _answer(conversation: "Conversation", chunked: Chunked, chunk: ChunkArgument) -> None:
    """The reply to a chunk after which others come."""
    if chunked.intake.keeper.verdict is Verdict.FINE:
        conversation.reply(f"250 2.0.0 {chunk.size} octets")
        return
    refusal = decide_refusal(chunked.intake.keeper, b"", conversation.settings)
    log.warning("mail refused", client=conversation.client, reason=refusal)
    tell_content(conversation, chunked.intake, b"", refusal)
    conversation.refuse_mail(refusal)
    conversation.refuse(refusal)


async def _throw_away(conversation: "Conversation", chunk: ChunkArgument, refusal: str) -> None:
    """Read the chunk to its end, and refuse it. The last one ends the mail, others make it impossible."""
    is_repeated = bool(conversation.transaction.refused)
    conversation.refuse_mail(refusal)
    await _read(conversation, ChunkReader(None), chunk)
    if chunk.is_last:
        conversation.reset()
    if is_repeated:
        # One error of the client, however many chunks were on their way.
        conversation.count_junk()
        conversation.reply(refusal)
    else:
        conversation.refuse(refusal)
