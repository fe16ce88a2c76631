"""JavaScript programs with the Node packages that `make test` has installed (``tests/support/node``)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from deploy.stack.places import ROOT, StackError

MODULES = ROOT / ".run" / "node" / "node_modules"


def run_node(script: Path, folder: Path, *, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
    """Run a script in ``folder``, where it finds the packages; its output. Raises CalledProcessError.

    A module looks for packages beside itself, so it is a copy that runs. Raises StackError when they were not installed.
    """
    if not MODULES.exists():
        raise StackError(f"{MODULES} is missing: run `sh deploy/bootstrap.sh test`")
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(MODULES)
    copy = shutil.copy(script, folder / script.name) if script.parent != folder else script
    done = subprocess.run(
        ["node", str(copy)], input=stdin, env={**os.environ, **(env or {})}, cwd=folder,
        stdout=subprocess.PIPE, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout
