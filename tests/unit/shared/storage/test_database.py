"""Connection strings."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from shared.settings import load, render_table
from shared.storage.database import DatabaseSettings, check_uri, render_conninfo
from shared.trouble import BadSetting


@pytest.mark.parametrize(
    "uri", ["postgresql://a:b@h:1/d", "postgres:///d?host=/run", "postgresql://h1,h2/d?target_session_attrs=any"]
)
def test_uris_of_libpq_are_taken(uri: str) -> None:
    check_uri(uri)


@pytest.mark.parametrize("uri", ["mysql://h/d", "h/d", "", "postgresql://h/d?nonsense=1", "postgresql+psycopg://h/d"])
def test_other_uris_are_refused_by_name(uri: str) -> None:
    with pytest.raises(BadSetting, match=r"db-uri: .*expected postgresql://user:password@host:port/database"):
        load(DatabaseSettings, options={"db-uri": uri})


def test_a_dead_peer_becomes_an_error_and_the_uri_wins() -> None:
    given = conninfo_to_dict(render_conninfo("postgresql://u:p@h:5/d?keepalives_idle=99", statement_timeout=7, name="x"))
    assert given["keepalives_idle"] == "99"
    assert given["tcp_user_timeout"] == "20000"
    assert given["application_name"] == "x"
    assert "statement_timeout=7000" in str(given["options"])
    assert (given["user"], given["password"], given["host"], given["port"], given["dbname"]) == ("u", "p", "h", "5", "d")


def test_the_password_is_masked_in_the_table() -> None:
    loaded = load(DatabaseSettings, options={"db-uri": "postgresql://u:secret@h/d"})
    assert not any("secret" in value for _, value, _, _ in render_table(loaded))
