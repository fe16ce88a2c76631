"""Which settings a caller of `make up` gave, and which of them a running stack does not have."""

from pathlib import Path

from deploy.stack.services import find_given
from deploy.stack.stack import Stack


def test_settings_are_told_from_the_rest_of_an_environment() -> None:
    environment = {"PATH": "/bin", "SMTP_SINK_ADDRESS": "127.0.0.1:2525", "SCALE": "router=2", "retry_interval": "5"}
    assert find_given(environment) == {"SMTP_SINK_ADDRESS": "127.0.0.1:2525", "SCALE": "router=2"}


def test_what_is_given_to_a_stack_that_runs_without_it_is_named(tmp_path: Path) -> None:
    environment = {"SMTP_SINK_ADDRESS": "127.0.0.1:2525", "RETRY_INTERVAL": "5"}
    assert Stack(tmp_path, environment=environment).find_ignored() == ["RETRY_INTERVAL", "SMTP_SINK_ADDRESS"]
    assert Stack(tmp_path, environment={"PATH": "/bin"}).find_ignored() == []
