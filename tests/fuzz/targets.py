"""The targets by name, and runs without atheris: every seed, and changes of seeds that are the same each time."""

from collections.abc import Sequence
from importlib import import_module
from random import Random
from typing import Protocol, cast

NAMES = ("data", "bdat", "paths", "arguments", "json")


class Target(Protocol):
    """A module of this package."""

    SEEDS: Sequence[bytes]
    WORDS: Sequence[bytes]

    def run(self, data: bytes) -> None:
        """Raises when something is found."""


def load(name: str) -> Target:
    """The target of this name."""
    return cast(Target, import_module(f"tests.fuzz.{name}_target"))


def change(target: Target, seed: int, count: int) -> list[bytes]:
    """Seeds with words put in, cut out and doubled."""
    random = Random(seed)
    changed = []
    for _ in range(count):
        data = random.choice(target.SEEDS)
        for _ in range(random.randint(1, 6)):
            start, end = sorted(random.randint(0, len(data)) for _ in range(2))
            match random.randint(0, 3):
                case 0:
                    data = data[:start] + random.choice(target.WORDS) + data[start:]
                case 1:
                    data = data[:start] + random.choice(target.WORDS) + data[end:]
                case 2:
                    data = data[:start] + data[end:]
                case _:
                    data = data[:end] + data[start:]
        changed.append(data[:4096])
    return changed
