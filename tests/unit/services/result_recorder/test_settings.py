"""Where the recorder's copies may go."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.result_recorder.settings import ServiceSettings


@pytest.mark.parametrize("key", ["record", "records", "actions", "outbox", "dead", "success"])
def test_a_copy_does_not_go_where_something_else_goes(key: str) -> None:
    """A copy that comes back as a record would be copied for ever."""
    with pytest.raises(ValidationError, match=f"'{key}' leads elsewhere already: expected a key of its own, webhook"):
        ServiceSettings(rabbitmq_webhook=key)


def test_it_is_off_by_default() -> None:
    assert ServiceSettings().rabbitmq_webhook == ""
    assert ServiceSettings(rabbitmq_webhook="webhook").rabbitmq_webhook == "webhook"
