"""Settings: precedence, origins, masking, and errors that name the setting."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from shared.settings import Duration, Durations, Settings, Strings, load, mask_url, render_table, spell
from shared.trouble import BadSetting


class Knobs(Settings):
    """Settings for these tests."""

    my_name: str = Field(default="built", description="a name")
    my_count: int = Field(default=1, ge=0, le=10, description="a number")
    my_switch: bool = Field(default=False, description="a switch")
    my_list: Strings = Field(default=("x",), description="a list")
    my_wait: Duration = Field(default=timedelta(seconds=5), description="a duration")
    my_waits: Durations = Field(default=(), description="durations")
    my_secret: SecretStr = Field(default=SecretStr(""), description="a secret")
    my_url: str = Field(default="amqp://guest:guest@localhost/", pattern="^amqps?://", description="a URL")
    my_option: int | None = Field(default=None, description="perhaps a number")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(
        'my-name = "file"\nmy_count = 2\nmy-list = ["a", "b"]\nmy-waits = [1, "2m"]\nsettings-of-another-process = 1\n'
    )
    return path


def test_built_in() -> None:
    loaded = load(Knobs)
    assert (loaded.settings.my_name, loaded.settings.my_count) == ("built", 1)
    assert set(loaded.origins.values()) == {"built-in"}


def test_precedence(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built-in < file < environment < command line."""
    assert load(Knobs, config=config).settings.my_name == "file"
    monkeypatch.setenv("MY_NAME", "environment")
    assert load(Knobs, config=config).settings.my_name == "environment"
    loaded = load(Knobs, config=config, options={"my-name": "command"})
    assert loaded.settings.my_name == "command"
    monkeypatch.setenv("MY_WAIT", "1h30m")
    loaded = load(Knobs, config=config, options={"my-switch": "yes"})
    assert {name: loaded.origins[name] for name in ("my_name", "my_count", "my_switch", "my_wait", "my_secret")} == {
        "my_name": "environment",
        "my_count": "file",
        "my_switch": "command line",
        "my_wait": "environment",
        "my_secret": "built-in",
    }
    assert (loaded.settings.my_switch, loaded.settings.my_wait, loaded.settings.my_list) == (
        True,
        timedelta(minutes=90),
        ("a", "b"),
    )
    assert loaded.settings.my_waits == (timedelta(seconds=1), timedelta(minutes=2))


def test_an_empty_value_in_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_NAME", "")
    monkeypatch.setenv("MY_LIST", "")
    loaded = load(Knobs)
    assert (loaded.settings.my_name, loaded.settings.my_list) == ("", ())
    assert loaded.origins["my_list"] == "environment"


@pytest.mark.parametrize(("text", "parts"), [("", ()), ("a", ("a",)), (" a, b ,,c ", ("a", "b", "c"))])
def test_lists(text: str, parts: tuple[str, ...]) -> None:
    assert load(Knobs, options={"my-list": text}).settings.my_list == parts


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("my-count", "x", "valid integer"),
        ("my-count", "11", "less than or equal to 10"),
        ("my-count", "", "valid integer"),
        ("my-switch", "perhaps", "valid boolean"),
        ("my-wait", "soon", "expected seconds (600) or a duration"),
        ("my-wait", "-5", "expected seconds"),
        ("my-waits", "1,soon", "expected seconds"),
        ("my-url", "http://x", "pattern"),
    ],
)
def test_an_error_names_setting_value_origin_and_what_was_expected(option: str, value: str, expected: str) -> None:
    with pytest.raises(BadSetting) as wrong:
        load(Knobs, options={option: value})
    text = str(wrong.value)
    assert text.startswith(f"{option}: ")
    assert "(from command line)" in text
    assert expected in text
    assert "\n" not in text


def test_a_wrong_value_never_shows_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("amq://user:hunter2@host/", "user:hunter2@host", "amq://a:hunter2@b,amq://c:hunter2@d"):
        monkeypatch.setenv("MY_URL", value)
        with pytest.raises(BadSetting, match=r"^my-url: .*\*\*\*\*.*from environment") as wrong:
            load(Knobs)
        assert "hunter2" not in str(wrong.value)
    monkeypatch.delenv("MY_URL")
    config = tmp_path / "c.toml"
    config.write_text("my-secret = 123456789\n")
    with pytest.raises(BadSetting, match=r"^my-secret: \*\*\*\*\*\*\*\* \(from file\)"):
        load(Knobs, config=config)


def test_an_unknown_option() -> None:
    with pytest.raises(BadSetting, match="command line: unknown setting --my-nam"):
        load(Knobs, options={"my-nam": "x"})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"--config .*missing\.toml: No such file"):
        load(Knobs, config=tmp_path / "missing.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("my-name = \n")
    with pytest.raises(BadSetting, match=r"--config .*broken\.toml: .*line 1"):
        load(Knobs, config=broken)


def test_the_table_masks_secrets() -> None:
    loaded = load(
        Knobs,
        options={"my-secret": "hunter2", "my-url": "amqp://u:hunter2@a/,amqp://u@b/", "my-waits": "90,0.5", "my-list": "a,b"},
    )
    rows = {name: (value, origin, meaning) for name, value, origin, meaning in render_table(loaded)}
    assert rows["my-secret"] == ("********", "command line", "a secret")
    assert rows["my-url"][0] == "amqp://u:********@a/,amqp://u@b/"
    assert (rows["my-waits"][0], rows["my-list"][0], rows["my-wait"][0], rows["my-option"][0]) == ("90,0.5", "a,b", "5", "")
    assert all(meaning for _, _, meaning in rows.values())
    assert "hunter2" not in str(rows)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("amqp://user:pa@ss@host/v", "amqp://user:********@host/v"),
        ("amqp://user@host/", "amqp://user@host/"),
        ("postgresql://u:p@h:5432/db", "postgresql://u:********@h:5432/db"),
        ("no url at all", "no url at all"),
        ("", ""),
    ],
)
def test_mask_url(url: str, masked: str) -> None:
    assert mask_url(url) == masked


def test_spelling() -> None:
    assert spell("rabbitmq_address") == "rabbitmq-address"


def test_settings_cannot_be_changed() -> None:
    settings = load(Knobs).settings
    with pytest.raises(ValueError, match="frozen"):
        settings.my_name = "x"  # type: ignore[misc] # that is the point
