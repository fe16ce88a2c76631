"""The targets are in order: every seed, and inputs that are the same each time, with and without atheris."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from services.json_inbox.intake import parse_items, parse_submission
from tests.fuzz import json_target
from tests.fuzz.targets import NAMES, change, load

ROOT = Path(__file__).parents[2]


def fuzz(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize("name", NAMES)
def test_seeds_and_what_is_made_of_them(name: str) -> None:
    target = load(name)
    for data in (*target.SEEDS, b"", *change(target, 1, 500)):
        target.run(data)


@pytest.mark.parametrize("name", NAMES)
def test_with_atheris(name: str, tmp_path: Path) -> None:
    """Where there is no atheris, it is said."""
    ended = fuzz(name, "--runs", "300", "--seed", "1", "--corpus", str(tmp_path))
    if find_spec("atheris") is None:
        assert (ended.returncode, ended.stderr[:24]) == (2, "atheris is not installed")
        return
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "Done 300 runs" in ended.stderr


def test_a_target_notices(tmp_path: Path) -> None:
    """An input is run again; what a target must not accept ends with a traceback."""
    path = tmp_path / "input"
    path.write_bytes(load("data").SEEDS[0])
    assert fuzz("data", "--reproduce", str(path)).returncode == 0
    ended = fuzz("data", "--reproduce", str(tmp_path / "none"))
    assert (ended.returncode, ended.stderr) == (2, f"--reproduce: {tmp_path / 'none'}: No such file or directory\n")
    ended = fuzz("nothing")
    assert ended.returncode == 2
    assert "invalid choice: 'nothing'" in ended.stderr


def test_the_seeds_of_json_get_far() -> None:
    """They are mails that are accepted: else changes of them would never get beyond the first check."""
    for seed in json_target.SEEDS[:3]:
        items, _ = parse_items(seed[1:], by_line=False)
        assert parse_submission(items[0], json_target._DOORS[0]).recipients
