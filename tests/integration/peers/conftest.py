"""Peers of this folder run for a whole module; the tests run on uvloop, as the process does."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from deploy.stack.places import make_short_folder
from tests.support.certificates import Certificates, make_certificates


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every coroutine test below this folder gets uvloop."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that other users may enter, which those of pytest are not."""
    made = make_short_folder()
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def certificates(folder: Path) -> Certificates:
    """For mx.x.example and the domain itself."""
    return make_certificates(folder / "certificates", ("mx.x.example", "x.example"))
