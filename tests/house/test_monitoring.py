"""docs/monitoring.md, the alerts and the dashboard say what the code says. What processes really show: tests/pipeline."""

import json
import re

import pytest

from services.cli.run import SERVICES, find_settings
from tests.support.monitoring import (
    CONFIGURATION,
    DASHBOARD,
    PAGE,
    find_names,
    find_patterns,
    list_series,
    read_alerts,
    read_declared,
    read_expressions,
    read_page,
)

OTHERS = re.compile(r"(rabbitmq|process|python)_\w+|up|ALERTS")
"""What is not made by code of ours; whether it is there, the pipeline test looks."""
ALERTS = read_alerts()


def test_every_metric_stands_in_the_page_as_the_code_makes_it() -> None:
    page = {name: metric for name, (metric, _) in read_page().items()}
    assert page == read_declared(), "python -m tests.support.monitoring prints the rows for docs/monitoring.md"


@pytest.mark.parametrize("asked", [*ALERTS.values(), *read_expressions()])
def test_alerts_and_dashboard_ask_for_what_there_is(asked: str) -> None:
    known = list_series(read_declared())
    assert [name for name in find_names(asked) if name not in known and not OTHERS.fullmatch(name)] == []
    assert [pattern for pattern in find_patterns(asked) if not any(re.fullmatch(pattern, name) for name in known)] == []


def test_every_alert_has_a_part_of_the_page() -> None:
    named = re.findall(r"^### (Mailwarren\w+)$", PAGE.read_text(), re.MULTILINE)
    assert named == list(ALERTS)
    links = re.findall(r"runbook_url: docs/monitoring\.md#(\w+)", CONFIGURATION.with_name("alerts.yml").read_text())
    assert links == [name.lower() for name in named]


def test_every_alert_is_tested_to_fire() -> None:
    tests = CONFIGURATION.with_name("alerts_test.yml").read_text().split("\n  - interval:")
    fires = {name for test in tests if "exp_samples: []" not in test for name in re.findall(r'alertname="(\w+)"', test)}
    assert fires == set(ALERTS)


@pytest.mark.parametrize("service", SERVICES)
def test_every_process_is_scraped_where_it_listens(service: str) -> None:
    address = find_settings(service).model_fields["metrics_addr"].default
    assert f'["{address}"], labels: {{service: {service}}}' in CONFIGURATION.read_text()
    assert f"`{address}` |\n" in PAGE.read_text()


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] >= 38
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text()))
    assert used - {"__rate_interval", "__all"} == names
    idents = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(idents)) == len(idents)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}
    assert len(places) == len(idents)
