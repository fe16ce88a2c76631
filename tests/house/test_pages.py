"""Pages that are made from the code, or quote it, say what the code says."""

from pathlib import Path

import pytest

from services.cli.settings_page import render_page

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "docs" / "examples").iterdir())


def test_settings_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == render_page(), "python -m services.cli.settings_page > docs/settings.md"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_readme_quotes_the_examples_that_are_run(path: Path) -> None:
    assert path.read_text().rstrip() in (ROOT / "README.md").read_text()


def test_readme_links_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text()
    links = [part.partition(")")[0] for part in readme.split("](")[1:]]
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing
