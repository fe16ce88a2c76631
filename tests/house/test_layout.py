"""Layout: names, sizes, and who may import whom beyond what import-linter checks."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("services", "shared", "migrations", "deploy", "tests")
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "misc", "manager"}
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 50
DRIVERS = {
    "aio_pika": ("shared/amqp",),
    "aiormq": ("shared/amqp",),
    "psycopg": ("shared/storage", "services/result_recorder"),
    "minio": ("shared/storage",),
    "sqlalchemy": ("shared/storage", "migrations"),
    "opentelemetry": ("shared/spans", "shared/spans_export"),
}
"""Library → the folders that may import it (tests and deploy may import all)."""


def python_files(*folders: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = (Path(line) for line in listed.stdout.splitlines())
    return sorted(path for path in paths if path.parts[0] in (folders or CODE) and (ROOT / path).exists())


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_file_is_small_and_well_named(path: Path) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert path.stem not in FORBIDDEN_NAMES
    assert not FORBIDDEN_NAMES & set(path.parts)
    assert len((ROOT / path).read_text().splitlines()) <= MOST_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MOST_LINES_OF_A_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", python_files("services", "shared"), ids=str)
def test_public_things_are_explained(path: Path) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert ast.get_docstring(tree), "a module says what it is for"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("path", python_files("services", "shared", "migrations"), ids=str)
def test_drivers_are_imported_at_their_edge_only(path: Path) -> None:
    for name in imports_of(path):
        for folder in DRIVERS.get(name.partition(".")[0], (str(path.parent),)):
            if str(path).startswith(folder):
                break
        else:
            pytest.fail(f"{path} imports {name}: only {DRIVERS[name.partition('.')[0]]} may")


@pytest.mark.parametrize("path", python_files("services"), ids=str)
def test_no_service_imports_another(path: Path) -> None:
    if path.parts[1] == "cli" or len(path.parts) < 3:
        return
    for name in imports_of(path):
        if name.startswith("services."):
            assert name.split(".")[1] == path.parts[1], f"{path} imports {name}"


@pytest.mark.parametrize(
    "service",
    ["smtp_inbox", "json_inbox", "router", "smtp_sender", "seal_sender", "result_recorder", "archiver", "webhook"],
)
def test_every_service_has_the_fixed_files(service: str) -> None:
    folder = ROOT / "services" / service
    names = {path.name for path in folder.iterdir()}
    assert {"__init__.py", "__main__.py", "settings.py"} <= names
    assert names & {"handler.py", "server.py"}
