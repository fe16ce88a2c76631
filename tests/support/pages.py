"""The fenced blocks of a page of the documentation, so that tests run what users copy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.stack.places import ROOT
from tests.support.node_programs import run_node

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PHP_LIBRARY = Path("/usr/share/php/PhpAmqpLib/autoload.php")
"""Of Debian's php-amqplib; elsewhere Composer puts it below ``vendor``."""


@dataclass(frozen=True, slots=True)
class Block:
    """One of them."""

    language: str
    """The word behind the fence: ``sh``, ``python``, ``text``, …"""
    text: str

    def having(self, replacements: Mapping[str, str]) -> str:
        """The text with the places of the page replaced by those of a test. Every one must occur."""
        text = self.text
        for old, new in replacements.items():
            assert old in text, f"the page has no {old!r} any more"
            text = text.replace(old, new)
        return text


def read_blocks(name: str, *languages: str) -> list[Block]:
    """The blocks in ``docs/NAME`` that have one of these languages, in order."""
    found = _FENCE.findall((ROOT / "docs" / name).read_text())
    return [Block(language, text) for language, text in found if language in languages]


def find_block(name: str, beginning: str) -> Block:
    """The only block that begins so."""
    found = [Block(language, text) for language, text in _FENCE.findall((ROOT / "docs" / name).read_text())]
    [block] = [block for block in found if block.text.startswith(beginning)]
    return block


def run_block(block: Block, folder: Path, env: Mapping[str, str]) -> str:
    """Run a program (``sh``, ``python``, ``js``, ``php``) in ``folder``; its output. Raises CalledProcessError.

    ``mailwarren`` is on its PATH, as after ``. .run/env``.
    """
    environment = {**os.environ, **env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    match block.language:
        case "sh":
            argv: Sequence[str] = ["sh", "-eu", "-c", block.text]
        case "python":
            argv = [sys.executable, "-c", block.text]
        case "php":
            (folder / "vendor").mkdir(exist_ok=True)
            (folder / "vendor" / "autoload.php").write_text(f"<?php require '{PHP_LIBRARY}';")
            (folder / "block.php").write_text(block.text)
            argv = ["php", "block.php"]
        case "js":
            (folder / "block.mjs").write_text(block.text)
            return run_node(folder / "block.mjs", folder, env=env)
        case other:
            raise ValueError(f"nobody knows how to run {other}")
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{block.text}\nended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout
