"""The process manager: supervisord's files, its start and end, and what we ask of it over its socket."""

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ProtocolError, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from deploy.stack.places import StackError, write_private

MARK = "MAILWARREN_STACK"
"""Environment variable that every process of a stack carries: the stack's folder."""

_LAUNCH = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class Program:
    """One process to keep running.

    ``settings`` are environment variables for it, ``drop`` prefixes of inherited ones that it must not see. With
    ``user`` it runs as somebody else and then gets neither (that user may be unable to read our files).
    """

    name: str
    argv: Sequence[str]
    settings: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()
    user: str | None = None
    cwd: Path = Path("/")
    stop_signal: str = "TERM"
    stop_as_group: bool = True
    priority: int = 999
    port: int | None = None


@dataclass(frozen=True)
class State:
    """What supervisor says of a program: its state (RUNNING, BACKOFF, …), pid (0: none), last exit code."""

    name: str
    state: str
    pid: int
    exit_code: int
    explanation: str

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self.pid != 0


class Supervisor:
    """supervisord for one stack: ``folder`` holds its files, ``socket_folder`` (short) its socket."""

    def __init__(self, folder: Path, socket_folder: Path) -> None:
        self._folder = folder
        self._programs = folder / "programs"
        self._log = folder / "log"
        self._socket = socket_folder / "supervisor.sock"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def answers(self) -> bool:
        """Whether supervisord is there."""
        try:
            self._ask("getState")
        except StackError:
            return False
        return True

    def launch(self, environment: Mapping[str, str], *, attached: bool) -> None:
        """Start supervisord with this environment. ``attached``: it ends, with all it runs, when the calling *thread*
        dies; otherwise it lives on in a session of its own."""
        self._programs.mkdir(exist_ok=True)
        self._log.mkdir(exist_ok=True)
        for old in self._programs.iterdir():
            old.unlink()
        self._socket.unlink(missing_ok=True)
        config = self._folder / "supervisord.conf"
        write_private(config, self._render())
        argv = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
        if attached:
            argv = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
        with (self._log / "supervisord.out").open("wb") as output:
            self._child = subprocess.Popen(
                argv,
                env={**environment, MARK: str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + 20
        while not self.answers:
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"supervisord does not start:\n{(self._log / 'supervisord.out').read_text()}")
            time.sleep(0.05)

    def put(self, program: Program) -> None:
        """Make a program known under its name, or give a known one (stopped) other arguments and settings."""
        write_private(
            self._programs / f"{program.name}.json",
            json.dumps(
                {
                    "argv": list(program.argv),
                    "cwd": str(program.cwd),
                    "set": dict(program.settings),
                    "drop": list(program.drop),
                }
            ),
        )
        section = self._programs / f"{program.name}.ini"
        known = section.exists()
        section.write_text(self._render_program(program))
        self._ask("reloadConfig")
        if not known:
            self._ask("addProcessGroup", program.name)

    def forget(self, name: str) -> None:
        """Drop a stopped program."""
        for suffix in (".ini", ".json"):
            (self._programs / (name + suffix)).unlink()
        self._ask("reloadConfig")
        self._ask("removeProcessGroup", name)

    def start(self, name: str) -> None:
        """Start a program, without waiting for it."""
        self._ask("startProcess", name, False)

    def stop(self, names: Sequence[str], *, within: float = 35) -> None:
        """Stop programs, all at the same time; supervisor kills what has not ended after 30 s."""
        for name in names:
            if self.state(name).state in ("RUNNING", "STARTING", "BACKOFF"):
                self._ask("stopProcess", name, False)
        deadline = time.monotonic() + within
        while any(self.state(name).runs for name in names):
            if time.monotonic() > deadline:
                raise StackError(f"still running {within:.0f} s after being told to stop: {', '.join(names)}")
            time.sleep(0.05)

    def kill(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a program and all its children."""
        pid = self.state(name).pid
        if pid == 0:
            raise StackError(f"{name} does not run")
        os.killpg(pid, number)  # supervisor makes each program the leader of a process group

    def state(self, name: str) -> State:
        """One program's state."""
        return _state(self._ask("getProcessInfo", name))

    def states(self) -> list[State]:
        """All programs' states, in the order in which they were started."""
        found = self._ask("getAllProcessInfo")
        order = {entry["name"]: entry["group_prio"] for entry in self._ask("getAllConfigInfo")}
        return [_state(info) for info in sorted(found, key=lambda info: (order[info["name"]], info["name"]))]

    def shut_down(self) -> None:
        """Stop everything and supervisord itself, and wait for its end."""
        pid = int(self._ask("getPID"))
        self._ask("shutdown")
        deadline = time.monotonic() + 40
        while _is_alive(pid):
            if self._child is not None:
                self._child.poll()  # reaps it, if it is ours
            if time.monotonic() > deadline:
                raise StackError(f"supervisord (pid {pid}) does not end")
            time.sleep(0.05)

    def kill_itself(self) -> None:
        """Kill supervisord if it is there, so that it starts nothing again; what it ran lives on without it."""
        if self.answers:
            os.kill(int(self._ask("getPID")), signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def _ask(self, method: str, *arguments: object) -> Any:
        """Call supervisord; ``StackError`` when it is not there or refuses."""
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        try:
            return getattr(ServerProxy("http://127.0.0.1", transport=transport).supervisor, method)(*arguments)
        except Fault as fault:
            raise StackError(f"supervisor: {method} {' '.join(map(str, arguments))}: {fault.faultString}") from None
        except (OSError, HTTPException, ProtocolError) as error:
            raise StackError(f"supervisord does not answer: {error}") from None
        finally:
            transport.close()

    def _render(self) -> str:
        """supervisord.conf. All values are ours; a percent sign in a path is doubled."""
        hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        descriptors = 65_536 if hard_limit == resource.RLIM_INFINITY else min(65_536, hard_limit)
        user = "user=root\n" if os.geteuid() == 0 else ""
        return (
            "[supervisord]\nnodaemon=true\nsilent=true\n"
            f"{user}minfds={descriptors}\n"
            f"logfile={_escape(self._log / 'supervisord.log')}\nlogfile_maxbytes=5MB\nlogfile_backups=1\n"
            f"pidfile={_escape(self._folder / 'supervisord.pid')}\nchildlogdir={_escape(self._log)}\n"
            f"[unix_http_server]\nfile={_escape(self._socket)}\nchmod=0700\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            "[include]\nfiles=programs/*.ini\n"
        )

    def _render_program(self, program: Program) -> str:
        """A [program:] section. Retries never run out; the pause between them grows by a second each."""
        argv: Sequence[str] = program.argv
        if program.user is None:
            argv = [sys.executable, "-I", "-S", str(_LAUNCH), str(self._programs / f"{program.name}.json")]
        user = f"user={program.user}\n" if program.user else ""
        return (
            f"[program:{program.name}]\ncommand={_escape(shlex.join(argv))}\ndirectory=/\n{user}"
            f"priority={program.priority}\nautostart=false\nautorestart=true\nstartsecs=1\nstartretries=1000000\n"
            f"stopsignal={program.stop_signal}\nstopasgroup={str(program.stop_as_group).lower()}\nkillasgroup=true\n"
            "stopwaitsecs=30\nredirect_stderr=true\n"
            f"stdout_logfile={_escape(self._log / program.name)}.log\n"
            "stdout_logfile_maxbytes=20MB\nstdout_logfile_backups=3\n"
        )


def _state(info: Mapping[str, Any]) -> State:
    return State(
        name=info["name"],
        state=info["statename"],
        pid=info["pid"],
        exit_code=info["exitstatus"],
        explanation=info["spawnerr"] or info["description"],
    )


def _escape(value: object) -> str:
    return str(value).replace("%", "%%")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
