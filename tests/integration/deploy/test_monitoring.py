"""What Debian's promtool says of the alert rules, their tests, the configuration and the dashboard's expressions."""

import json
import subprocess
from pathlib import Path

from deploy.stack.places import ROOT
from tests.support.monitoring import ALERTS, CONFIGURATION, read_expressions

PROMTOOL = ROOT / ".run" / "packages" / "promtool"
"""Unpacked by deploy/bootstrap.sh."""


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [PROMTOOL, *arguments]
    return subprocess.run(command, cwd=ALERTS.parent, capture_output=True, text=True, timeout=60, check=False)


def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    done = promtool("test", "rules", "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_valid() -> None:
    done = promtool("check", "config", CONFIGURATION)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "alerts.yml" in done.stdout


def test_every_expression_of_the_dashboard_is_one(tmp_path: Path) -> None:
    # This promtool has no check for single expressions: each as a recording rule.
    rules = tmp_path / "rules.yml"
    rules.write_text(render_rules(read_expressions()))
    done = promtool("check", "rules", rules)
    assert done.returncode == 0, done.stdout + done.stderr
    rules.write_text(render_rules([*read_expressions(), "sum(rate(up[1m])"]))
    assert promtool("check", "rules", rules).returncode != 0


def render_rules(expressions: list[str]) -> str:
    """A file of rules: JSON is YAML, too."""
    rules = [{"record": f"panel:number_{number}", "expr": one} for number, one in enumerate(expressions)]
    return json.dumps({"groups": [{"name": "dashboard", "rules": rules}]})
