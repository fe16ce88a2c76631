"""Ports, folders and files of a stack."""

import socket
from pathlib import Path

import pytest

from deploy.stack.memory import Memory
from deploy.stack.places import HOST, StackError, find_program, free_ports, is_ours, write_private


def test_free_ports_differ_and_are_below_the_ephemeral_range() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    lowest_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(1024 < port < lowest_ephemeral for port in ports) or lowest_ephemeral <= 12_000


def test_a_port_is_remembered_until_somebody_else_has_it(tmp_path: Path) -> None:
    first = Memory.load(tmp_path).port("rabbitmq")
    memory = Memory.load(tmp_path)
    memory.drop_busy_ports()
    assert memory.port("rabbitmq") == first
    with socket.create_server((HOST, first)):
        memory.drop_busy_ports()
        assert memory.port("rabbitmq") != first


def test_what_holds_passwords_is_closed_to_others(tmp_path: Path) -> None:
    Memory.load(tmp_path).save()
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "open").write_text("old")
    (tmp_path / "open").chmod(0o644)
    write_private(tmp_path / "open", "new")
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o600


def test_a_link_under_the_temporary_folder_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert is_ours(tmp_path)
    assert not is_ours(tmp_path / "link")
    assert not is_ours(tmp_path / "gone")


def test_of_several_versions_the_newest_program_is_taken(tmp_path: Path) -> None:
    for version in ("9", "15", "14"):
        program = tmp_path / version / "bin" / "initdb"
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    assert find_program("initdb", f"{tmp_path}/*/bin/initdb") == tmp_path / "15" / "bin" / "initdb"


def test_a_missing_program_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StackError, match="epmd is not on this machine: run `make setup`"):
        find_program("epmd", "/nowhere/*/epmd")
