"""Postfix's smtp-sink(1) with its fault switches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.stack.places import find_program
from tests.support.peers.process import PeerProcess, as_other_user, make_folder


class SmtpSink(PeerProcess):
    """``SmtpSink(folder, "-r", "RCPT")``. What it took is in ``dumps()``."""

    def __init__(self, folder: Path, *switches: str) -> None:
        super().__init__(folder)
        self._switches = switches

    def prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """Make the folder of its dumps."""
        make_folder(self.folder / "mail")
        program = str(find_program("smtp-sink", "/usr/sbin/smtp-sink"))
        own = ["-4", "-h", "sink.example", "-d", "mail/%H%M%S."]
        return [*as_other_user(), program, *own, *self._switches, self.address, "64"], {}

    def answers(self) -> bool:
        """Does it listen? What it says may be the fault that was asked for."""
        listening = Path("/proc/net/tcp").read_text()
        return f"0100007F:{self.port:04X} 00000000:0000 0A" in listening

    def dumps(self) -> list[str]:
        """The mails it took, with headers of its own in front (``X-Mail-Args:`` …); LF line ends."""
        return [path.read_text(errors="surrogateescape") for path in sorted((self.folder / "mail").iterdir())]
