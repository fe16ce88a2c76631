"""What a stack remembers between runs (``stack.json``), so that the same data start again at the same addresses."""

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.stack.places import free_ports, is_free, is_ours, make_short_folder, write_private


@dataclass
class Memory:
    """The contents of ``stack.json`` in ``folder``; every change is written at once."""

    folder: Path
    name: str = field(default_factory=lambda: f"mailwarren-{secrets.token_hex(4)}")
    rabbitmq_password: str = field(default_factory=lambda: secrets.token_hex(16))
    rabbitmq_cookie: str = field(default_factory=lambda: secrets.token_hex(16))
    postgres_password: str = field(default_factory=lambda: secrets.token_hex(16))
    ports: dict[str, int] = field(default_factory=dict)
    """Use of a port (a program's name, ``rabbitmq-api``, …) → port."""
    short_folder: str = ""
    """A folder of ours under the temporary one, for what cannot be in ``folder``; empty: none."""
    postgres_folder: str = ""
    metrics: dict[str, str] = field(default_factory=dict)
    """Program → ``host:port`` of its health and metrics."""
    env: dict[str, str] = field(default_factory=dict)
    """Addresses as last written to the file ``env``."""
    given: dict[str, str] = field(default_factory=dict)
    """The settings that the caller of ``up`` had in the environment, ``SCALE`` among them."""

    @classmethod
    def load(cls, folder: Path) -> "Memory":
        """What is remembered in this folder, or a new memory."""
        file = folder / "stack.json"
        return cls(folder, **json.loads(file.read_text())) if file.exists() else cls(folder)

    def save(self) -> None:
        """Write it down."""
        contents = asdict(self)
        del contents["folder"]
        write_private(self.folder / "stack.json", json.dumps(contents, indent=1) + "\n")

    def port(self, use: str) -> int:
        """The port for this use: the one it had, else a free one."""
        if use not in self.ports:
            self.ports[use] = free_ports(1, frozenset(self.ports.values()))[0]
            self.save()
        return self.ports[use]

    def drop_busy_ports(self) -> None:
        """Forget the ports that somebody took while the stack was down."""
        self.ports = {use: port for use, port in self.ports.items() if is_free(port)}

    def settle_short_folder(self) -> Path:
        """The folder for what cannot be in ours: the one we had when it is still there and ours, else a new one."""
        if not self.short_folder or not is_ours(Path(self.short_folder)):
            self.short_folder = str(make_short_folder())
            self.save()
        return Path(self.short_folder)
