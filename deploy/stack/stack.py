"""One private stack: the servers, our processes, and what a person or a test wants of them."""

import fcntl
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.stack import addresses
from deploy.stack.health import find_trouble_at, tail
from deploy.stack.leftovers import end_leftovers, find_leftovers
from deploy.stack.memory import Memory
from deploy.stack.places import ROOT, SOCKET_ROOM, StackError, write_private
from deploy.stack.postgres import Postgres
from deploy.stack.rabbitmq import RabbitMQ
from deploy.stack.servers import postgres_of, rabbitmq_of
from deploy.stack.services import OPTIONAL, SERVICES, Service, find_given, find_service
from deploy.stack.supervisor import Program, State, Supervisor

_SERVER_PATIENCE = 90.0
_SERVICE_PATIENCE = 60.0
_TRIES = 2  # ends of a process just started, its servers being ready, after which more waiting is no use
_SERVERS = ("epmd", "rabbitmq", "postgres")


class Stack:
    """RabbitMQ, Postgres and our processes, private to ``folder``.

    ``environment`` is the environment of every process; a setting in it wins over what the stack would choose, also
    ``RABBITMQ_ADDRESS`` and ``DB_URI``: then that private server is not started at all. ``services`` names what runs
    after ``up`` and thereby which servers are needed (default: all but webhook; empty: both servers, set up, and nothing
    else), ``scale`` says how many copies. ``servers_only``: no migrations and no topology either. ``attached``: all
    processes end when the calling thread does, however it ends. ``say`` gets a line per step.
    """

    def __init__(
        self,
        folder: Path,
        *,
        environment: Mapping[str, str],
        services: Sequence[str] | None = None,
        servers_only: bool = False,
        scale: Mapping[str, int] | None = None,
        attached: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)  # the user postgres passes through; files with secrets are closed one by one
        asked = [name for name in OPTIONAL if (scale or {}).get(name)]
        self._services = [find_service(name) for name in ((*SERVICES, *asked) if services is None else services)]
        self._servers_only = servers_only
        self._scale = dict(scale or {})
        self._attached = attached
        self._say = say
        self._memory = Memory.load(self.folder)
        # A shell that has sourced the ``env`` of an earlier run hands us our own old addresses.
        old = self._memory.env
        self._environment = {name: value for name, value in environment.items() if old.get(name) != value}
        self.env: dict[str, str] = dict(old)
        self._settings: dict[str, str] = {}

    def __enter__(self) -> Self:
        """``up``."""
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """``down``."""
        self.down()

    @property
    def is_up(self) -> bool:
        """Whether this stack was started completely and its supervisord runs."""
        return self._env_file.exists() and self._supervisor.answers

    @property
    def leftovers(self) -> int:
        """How many processes of this stack run, with or without its supervisord."""
        return len(find_leftovers(self.folder, self._data))

    def find_ignored(self) -> list[str]:
        """Settings in our environment that the running stack does not have; those that it merely has besides are no matter."""
        return sorted(name for name, value in find_given(self._environment).items() if self._memory.given.get(name) != value)

    def up(self) -> None:
        """Start everything and wait until it can be used; on failure nothing is left running."""
        with self._lock():
            if self.is_up:
                raise StackError(f"the stack in {self.folder} is up already")
            self._tear_down()  # what a stack that was cut short has left
            try:
                self._start_servers()
                if not self._servers_only:
                    self._set_up()
                    self._start_services()
            except BaseException:
                self._tear_down()
                raise
            self._memory.given = find_given(self._environment)
            self._memory.save()
            write_private(self._env_file, addresses.render_shell(self.env))

    def down(self) -> None:
        """Stop everything; afterwards no process of this stack is left."""
        with self._lock():
            self._tear_down()

    def clean(self) -> None:
        """Kill everything and delete the folder with all data."""
        with self._lock():
            self._supervisor.kill_itself()
            end_leftovers(self.folder, self._data, patience=0)
        for folder in (self._memory.postgres_folder, self._memory.short_folder):
            if folder:
                shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.folder)

    # --- servers

    @cached_property
    def rabbitmq(self) -> RabbitMQ:
        """The private node; ask only when the stack has one."""
        return rabbitmq_of(self._memory)

    @cached_property
    def postgres(self) -> Postgres:
        """The private cluster; ask only when the stack has one."""
        return postgres_of(self._memory)

    def run_command(self, arguments: Sequence[str], stdin: int = subprocess.DEVNULL, **settings: str) -> str:
        """Run ``mailwarren ARGUMENTS`` with this stack's settings; its output, ``StackError`` unless it exits 0."""
        done = subprocess.run(
            mailwarren(*arguments),
            cwd=ROOT,
            env={**self.env, **self._environment, **settings},
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = f"{done.stdout}{done.stderr}".rstrip()
            raise StackError(f"`mailwarren {arguments[0]}` failed with exit code {done.returncode}:\n{said}")
        return done.stdout

    def declare_topology(self, address: str, name: str = "topology.json") -> None:
        """``mailwarren amqpinit ADDRESS < NAME``."""
        with (ROOT / name).open("rb") as topology:
            self.run_command(["amqpinit", address], stdin=topology.fileno())

    # --- programs: ``name`` is a service (all its copies), one copy (``smtp-sender-2``) or a server

    def start(self, name: str, copies: int = 1, **settings: str) -> None:
        """Start a service, with these settings on top, or a stopped server, and wait until it is ready."""
        names = self._put(find_service(name), copies, settings) if name in SERVICES | OPTIONAL else self._programs_of(name)
        for program in names:
            self._supervisor.start(program)
        self._wait(names, _SERVICE_PATIENCE)

    def stop(self, name: str) -> None:
        """Stop in order (SIGTERM; Postgres: fast shutdown) and wait for the end."""
        self._supervisor.stop(self._programs_of(name))

    def restart(self, name: str) -> None:
        """Stop and start, with the same settings, and wait until ready."""
        names = self._programs_of(name)
        self._supervisor.stop(names)
        for program in names:
            self._supervisor.start(program)
        self._wait(names, _SERVICE_PATIENCE)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to all its processes; supervisor starts again what dies of it (then see ``wait_ready``)."""
        for program in self._programs_of(name):
            self._supervisor.kill(program, number)

    def pids(self, name: str) -> list[int]:
        """The process ids of its copies, their children not included; empty when it does not run."""
        return [state.pid for state in map(self._supervisor.state, self._programs_of(name)) if state.runs]

    def wait_ready(self, name: str, within: float = _SERVICE_PATIENCE) -> None:
        """Wait until it can be used."""
        self._wait(self._programs_of(name), within)

    def states(self) -> list[State]:
        """All programs, in the order of their start."""
        return self._supervisor.states()

    def ports(self, program: str) -> list[int]:
        """The ports that a program was given, that of its metrics last."""
        service = program.rstrip("0123456789").rstrip("-")
        uses = (f"{service}-listen", program, f"{program}-api")
        return [self._memory.ports[use] for use in uses if use in self._memory.ports]

    def log(self, program: str) -> Path:
        """A program's log file."""
        return self.folder / "log" / f"{program}.log"

    # --- inside

    @property
    def _env_file(self) -> Path:
        return self.folder / "env"

    @property
    def _data(self) -> Path | None:
        return Path(self._memory.postgres_folder, "data") if self._memory.postgres_folder else None

    @cached_property
    def _supervisor(self) -> Supervisor:
        fits = len(str(self.folder).encode()) <= SOCKET_ROOM
        return Supervisor(self.folder, self.folder if fits else self._memory.settle_short_folder())

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One ``up`` or ``down`` at a time."""
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(f"the stack in {self.folder} is being started or stopped by somebody else") from None
            yield

    def _needs(self, setting: str, *, needed: bool) -> bool:
        return setting not in self._environment and (needed or self._servers_only or not self._services)

    def _start_servers(self) -> None:
        """Start supervisord and the servers needed, and settle the addresses."""
        self._memory.drop_busy_ports()
        self._memory.save()
        programs: list[Program] = []
        own: dict[str, str] = {}
        told: dict[str, str] = {}
        if self._needs("RABBITMQ_ADDRESS", needed=any(service.needs_broker for service in self._services)):
            self.rabbitmq.prepare()
            programs += self.rabbitmq.programs()
            own |= {"RABBITMQ_ADDRESS": self.rabbitmq.address(), "RABBITMQ_API": self.rabbitmq.api}
            told[addresses.metrics_name("rabbitmq")] = self.rabbitmq.metrics
        if self._needs("DB_URI", needed=any(service.needs_database for service in self._services)):
            self.postgres.prepare()
            programs.append(self.postgres.program())
            own["DB_URI"] = self.postgres.address()
        self._memory.metrics = {}
        seal_port = self._memory.port("seal-service")
        self._settings = addresses.choose_settings(self._environment, own, self.folder, seal_port, self._services)
        (self.folder / addresses.STORAGE_FOLDER).mkdir(exist_ok=True)
        self._supervisor.launch(self._environment, attached=self._attached)
        for program in programs:
            self._supervisor.put(program)
            self._supervisor.start(program.name)
        self._wait([program.name for program in programs if program.name != "epmd"], _SERVER_PATIENCE)
        self._remember_env({**self._settings, **told})

    def _set_up(self) -> None:
        """Make the database and the topology."""
        if "DB_URI" in self._settings:
            if "DB_URI" not in self._environment and not self.postgres.has_database(self.postgres.database):
                self.postgres.create_database(self.postgres.database)
            self.run_command(["migrate"])
            self._say("database: migrations applied")
        if "RABBITMQ_ADDRESS" in self._settings:
            self.declare_topology(self._settings["RABBITMQ_ADDRESS"])
            for service in self._services:
                if service.name in OPTIONAL:
                    self.declare_topology(self._settings["RABBITMQ_ADDRESS"], f"topology-{service.name}.json")
            self._say("broker: topology.json declared")

    def _start_services(self) -> None:
        names = [name for service in self._services for name in self._put(service, self._scale.get(service.name, 1))]
        for name in names:
            self._supervisor.start(name)
        self._wait(names, _SERVICE_PATIENCE, tries=_TRIES)

    def _put(self, service: Service, copies: int, settings: Mapping[str, str] | None = None) -> Sequence[str]:
        """Make ``copies`` of a service known to supervisor, instead of those it knows; their names."""
        known = self._find_programs(service.name)
        self._supervisor.stop(known)
        names = addresses.copy_names(service.name, copies)
        for name in set(known) - set(names):
            self._supervisor.forget(name)
        given = {**self._environment, **(settings or {})}
        listeners: dict[str, str] = {}
        if service.listens:
            listeners = addresses.choose_listeners(service, given, self._memory.port(f"{service.name}-listen"))
        metrics = self._memory.metrics
        for name in known:
            metrics.pop(name, None)
        for number, name in enumerate(names):
            metrics[name] = addresses.choose_metrics(given, self._memory.port(name), metrics.values())
            # As --workers does: the first copy that has a hand free gets the next message.
            own = {"RABBITMQ_CONSUMER_PRIORITY": str(-number), **self._settings, **listeners, **(settings or {})}
            own["METRICS_ADDR"] = metrics[name]
            argv = mailwarren("run", service.name)
            priority = 100 + list(SERVICES | OPTIONAL).index(service.name)
            self._supervisor.put(Program(name, argv, settings=own, cwd=ROOT, priority=priority))
        told = {addresses.metrics_name(service.name): ",".join(metrics[name] for name in names)}
        for listener, value in listeners.items():
            told |= addresses.tell_listener(listener, value)
        self._remember_env(self.env | told)
        return names

    def _remember_env(self, env: dict[str, str]) -> None:
        self.env = env
        self._memory.env = env
        self._memory.save()
        if self._env_file.exists():
            write_private(self._env_file, addresses.render_shell(env))

    def _find_programs(self, service: str) -> list[str]:
        """The copies of a service that supervisor knows."""
        return [state.name for state in self.states() if re.fullmatch(rf"{service}(-\d+)?", state.name)]

    def _programs_of(self, name: str) -> list[str]:
        programs = self._find_programs(name)
        if not programs:
            raise StackError(f"no program {name!r} here: there are {', '.join(s.name for s in self.states()) or 'none'}")
        return programs

    def find_trouble(self, program: str) -> str | None:
        """Why a program cannot be used now; None when it can."""
        state = self._supervisor.state(program)
        if state.state not in ("RUNNING", "STARTING"):
            return f"{state.state}: {state.explanation}"
        match program:
            case "epmd":
                return None
            case "rabbitmq":
                return self.rabbitmq.find_trouble()
            case "postgres":
                return self.postgres.find_trouble()
            case _:
                return find_trouble_at(self._memory.metrics[program])

    def _wait(self, programs: Sequence[str], within: float, *, tries: int = sys.maxsize) -> None:
        """Wait until all are ready, telling of each. Otherwise, or as soon as one has ended ``tries`` times, tell what
        hinders the rest, with the ends of their logs."""
        began = told = time.monotonic()
        seen: dict[str, set[int]] = {name: set() for name in programs}
        while seen:
            troubles = {name: self.find_trouble(name) for name in seen}
            passed = time.monotonic() - began
            for name in [name for name, trouble in troubles.items() if trouble is None]:
                del seen[name]
                self._say(f"{name}: ready after {passed:.1f} s")
            for name, pids in seen.items():
                pids.add(self._supervisor.state(name).pid)
            lost = [name for name, pids in seen.items() if len(pids - {0}) > tries]
            if seen and (lost or passed > within):
                reports = (f"{name}: {troubles[name]}\n{tail(self.log(name))}" for name in lost or seen)
                raise StackError(f"not ready after {passed:.0f} s:\n" + "\n".join(reports))
            if seen and time.monotonic() - told > 5:
                told = time.monotonic()
                self._say(f"waiting for {', '.join(seen)} ({passed:.0f} s)")
            time.sleep(0.1 if seen else 0)

    def _tear_down(self) -> None:
        """Our processes first, then the servers, then supervisord; then whatever is still there is killed."""
        if self._supervisor.answers:
            programs = [state.name for state in self.states()]
            self._supervisor.stop([name for name in programs if name not in _SERVERS])
            self._supervisor.stop([name for name in programs if name in ("rabbitmq", "postgres")])
            self._supervisor.stop([name for name in programs if name == "epmd"])
            self._supervisor.shut_down()
        for killed in end_leftovers(self.folder, self._data, patience=2):
            self._say(f"killed a process that was left: {killed}")
        self._env_file.unlink(missing_ok=True)
        short = self._memory.short_folder
        if short and not self._memory.postgres_folder.startswith(short):
            shutil.rmtree(short, ignore_errors=True)


def mailwarren(*arguments: str) -> list[str]:
    """The command line of ``mailwarren ARGUMENTS``, with this interpreter."""
    return [sys.executable, "-m", "services.cli", *arguments]
