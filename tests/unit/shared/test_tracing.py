"""Hops without a collector: nothing, or a trace that is passed on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.router.settings import ServiceSettings
from shared.settings import load
from shared.tracing import Hop, current_hop, enter, open_batch, open_message, open_request
from shared.trouble import BadSetting
from shared.wire.trace import Trace

TRACE = Trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1")
SERVICES = ("smtp_inbox", "router", "smtp_sender", "seal_sender", "result_recorder", "archiver")


def test_no_trace_is_begun() -> None:
    assert open_message("route", "inbox", 1, None) is None
    assert open_request("POST", {}) is None
    assert open_batch("record", "records", [TRACE, None]) is None
    with enter(None) as nothing:
        assert (nothing, current_hop()) == (None, None)


def test_a_trace_is_passed_on_and_the_hop_is_current_for_its_time() -> None:
    outer = Hop(None)
    with outer, enter(open_message("route", "inbox", 1, TRACE)) as hop:
        assert hop is not None
        assert current_hop() is hop
        hop.tell({"mailwarren.id": "x"})
        assert hop.trace == hop.own == TRACE
    assert current_hop() is None
    with pytest.raises(ZeroDivisionError), enter(open_request("POST", {}, TRACE)):
        raise ZeroDivisionError
    assert current_hop() is None


def test_nothing_is_loaded_without_an_endpoint() -> None:
    program = [
        "import sys",
        *(f"import services.{service}.__main__" for service in SERVICES),
        "from shared.tracing import start_tracing, stop_tracing",
        "start_tracing('router', '', 1.0)",
        "stop_tracing()",
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google'))])",
        # FastAPI needs the interface, which does nothing by itself.
        "import services.json_inbox.__main__",
        "parts = ('opentelemetry.sdk', 'opentelemetry.exporter', 'opentelemetry.proto', 'google')",
        "print([name for name in sys.modules if name.startswith(parts)])",
    ]
    root = Path(__file__).resolve().parents[3]
    told = subprocess.run([sys.executable, "-c", "\n".join(program)], cwd=root, capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n[]\n"


def test_the_standard_variable_does_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    loaded = load(ServiceSettings)
    assert (loaded.settings.otlp_endpoint, loaded.origins["otlp_endpoint"]) == ("http://collector:4318", "environment")
    monkeypatch.setenv("OTLP_ENDPOINT", "https://other/base")
    assert load(ServiceSettings).settings.otlp_endpoint == "https://other/base"
    assert load(ServiceSettings, options={"otlp-endpoint": ""}).settings.otlp_endpoint == ""


@pytest.mark.parametrize(
    "value", ["collector:4318", "grpc://collector", "http://", "http://a:b", "http://u:p@h", "http://h/?x=1"]
)
def test_what_is_no_endpoint(value: str) -> None:
    with pytest.raises(BadSetting, match=r"^otlp-endpoint: .*: expected http\[s\]://host\[:port\]\[/path\]$"):
        load(ServiceSettings, options={"otlp-endpoint": value})


@pytest.mark.parametrize("value", ["-0.1", "1.1", "all", "nan"])
def test_what_is_no_part(value: str) -> None:
    with pytest.raises(BadSetting, match=r"^trace-sample: "):
        load(ServiceSettings, options={"trace-sample": value})
