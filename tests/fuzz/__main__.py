"""The runner: see the package."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.fuzz.targets import NAMES, load

NO_ATHERIS = "atheris is not installed: there are packages for x86_64 Linux and Python 3.11 and 3.12 only (pip install atheris)"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked for. Exits with 2 and a sentence when it cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Look for inputs that break what reads a stranger's octets."
    )
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--seconds", type=int, default=0, help="how long; 0 = until it is stopped or something is found")
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs; -1 = any number")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers; 0 = another one each time")
    parser.add_argument("--corpus", type=Path, help="a folder that keeps what was worth it, for the next time")
    parser.add_argument("--reproduce", type=Path, metavar="FILE", help="run this input, and nothing else")
    return parser.parse_args(arguments)


def quote(word: bytes) -> str:
    """A line of libFuzzer's dictionary."""
    return '"' + "".join(f"\\x{octet:02x}" for octet in word) + '"\n'


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 nothing was found, 2 it could not run; what is found ends the process with its traceback and another code."""
    asked = parse(arguments)
    if asked.reproduce is not None:
        try:
            data = asked.reproduce.read_bytes()
        except OSError as error:
            print(f"--reproduce: {asked.reproduce}: {error.strerror}", file=sys.stderr)
            return 2
        load(asked.target).run(data)
        return 0
    try:
        atheris: Any = import_module("atheris")
    except ImportError:
        print(NO_ATHERIS, file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["services", "shared"]):
        target = load(asked.target)
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder) / "seeds", Path(folder) / "words"
        corpus.mkdir()
        for number, seed in enumerate(target.SEEDS):
            (corpus / f"seed-{number}").write_bytes(seed)
        words.write_text("".join(map(quote, target.WORDS)))
        kept = [str(asked.corpus)] if asked.corpus else []
        limits = [
            f"-max_total_time={asked.seconds}",
            f"-runs={asked.runs}",
            f"-seed={asked.seed}",
            "-max_len=4096",
            "-timeout=10",
        ]
        options = ["tests.fuzz", *kept, str(corpus), f"-dict={words}", *limits]
        atheris.Setup(options, target.run)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
