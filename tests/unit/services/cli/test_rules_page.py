"""docs/rules.md: its examples say what the command says."""

import re
import shlex
from pathlib import Path

import pytest

from services.cli.__main__ import call
from shared.delivery.rewrites import PROPERTIES
from shared.delivery.rule_params import PARAMS
from shared.delivery.rules import parse_rule
from shared.wire.document import parse_document

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "rules.md").read_text()
FILES = dict(zip(("rules.json", "wrong.json"), re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL), strict=True))
EXAMPLES = [
    (command, output)
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for command, output in re.findall(r"^\$ mailwarren (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE)
]


@pytest.mark.parametrize(("command", "output"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_what_the_page_shows(
    command: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    code = call(shlex.split(command))
    shown = capsys.readouterr()
    assert shown.out + shown.err == output
    assert code == (2 if "wrong.json" in command else 0)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


def test_configurations_within_the_text_are_possible() -> None:
    found = re.findall(r'^ *`(\{"params".*\})`$', PAGE, re.MULTILINE)
    assert found
    for text in found:
        parse_rule({"name": "x", "configuration": parse_document(text.encode())})


@pytest.mark.parametrize("name", [*PARAMS, "header.<name>", *PROPERTIES])
def test_every_parameter_and_every_rewrite_is_explained(name: str) -> None:
    first_columns = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert f"`{name}`" in " ".join(first_columns)
