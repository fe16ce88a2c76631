"""A stack for one occasion (a test, the demo, a measurement): independent of what surrounds it, gone afterwards."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from deploy.stack.stack import Stack

_KEPT = ("PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "VIRTUAL_ENV", "PYTHONPATH", "COVERAGE_FILE")
_KEPT_PREFIXES = ("LC_", "SSL_CERT_")


def bare_environment() -> dict[str, str]:
    """The caller's environment without anything that could be a setting of ours."""
    return {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}


class TemporaryStack(Stack):
    """A stack in a new folder below ``below`` (default: the system's temporary one), with these ``settings`` alone.

    Leaving it kills all its processes and deletes the folder; so does the death of the thread that made it.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        services: Sequence[str] | None = None,
        servers_only: bool = False,
        scale: Mapping[str, int] | None = None,
        below: Path | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        if below is not None:
            below.mkdir(parents=True, exist_ok=True)
        super().__init__(
            Path(tempfile.mkdtemp(prefix="mailwarren-", dir=below)),
            environment={**bare_environment(), **(settings or {})},
            services=services,
            servers_only=servers_only,
            scale=scale,
            attached=True,
            say=say,
        )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """``clean``."""
        self.clean()
