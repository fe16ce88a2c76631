"""A private Postgres cluster: made once, started as a program, asked over TCP. fsync and all it needs stay on."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from deploy.stack.places import HOST, StackError, find_program
from deploy.stack.supervisor import Program

_PROGRAMS = "/usr/lib/postgresql/*/bin/"


@dataclass(frozen=True)
class Postgres:
    """One cluster in ``folder``/data. Postgres refuses to run as root: then it runs as the user ``postgres``."""

    folder: Path
    port: int
    user: str
    password: str
    database: str

    @property
    def data(self) -> Path:
        """The cluster's data folder; also the working folder of all its processes."""
        return self.folder / "data"

    def prepare(self) -> None:
        """Make the cluster unless it is there."""
        initdb = find_program("initdb", _PROGRAMS + "initdb")
        version_file = self.data / "PG_VERSION"
        if version_file.exists():
            self._check_version(initdb, version_file.read_text().strip())
            return
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o700)
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        owner = server_user()
        if owner is not None:
            entry = pwd.getpwnam(owner)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            os.chown(password_file, entry.pw_uid, entry.pw_gid)
        made = subprocess.run(
            [
                str(initdb),
                "-D",
                str(self.data),
                f"--username={self.user}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ],
            cwd="/",
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            user=owner,
            group=owner,
            extra_groups=None if owner is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        password_file.unlink()
        if made.returncode != 0:
            raise StackError(f"initdb failed:\n{made.stdout}{made.stderr}")

    def program(self) -> Program:
        """The server. No Unix socket: its path would be too long in a deep folder, and nothing here needs one."""
        server = find_program("postgres", _PROGRAMS + "postgres")
        options = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
        }
        return Program(
            "postgres",
            [str(server), "-D", str(self.data), *(f"--{name}={value}" for name, value in options.items())],
            user=server_user(),
            stop_signal="INT",  # "fast": TERM would wait for all clients to leave
            stop_as_group=False,  # to a backend SIGINT means "cancel the query"
            priority=20,
            port=self.port,
        )

    def address(self, database: str | None = None) -> str:
        """The plain ``postgresql://`` URL of a database."""
        return f"postgresql://{self.user}:{self.password}@{HOST}:{self.port}/{database or self.database}"

    def find_trouble(self) -> str | None:
        """Why the server cannot be used yet; None when it can."""
        try:
            psycopg.connect(self.address("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            return " ".join(str(error).split())
        return None

    def create_database(self, name: str, template: str | None = None) -> str:
        """Make a database, as a copy of ``template`` if named (nobody may be connected to that one); its URL."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        self._execute(statement)
        return self.address(name)

    def has_database(self, name: str) -> bool:
        """Whether there is a database of this name."""
        with psycopg.connect(self.address("postgres")) as connection:
            return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None

    def drop_database(self, name: str) -> None:
        """Delete a database, cutting off whoever is connected to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _check_version(self, initdb: Path, found: str) -> None:
        """Data of another major version cannot be read; the user decides whether they go."""
        told = subprocess.run([str(initdb), "--version"], capture_output=True, text=True, check=True).stdout
        if told.split()[2].split(".")[0] != found:
            raise StackError(f"{self.data} was made by Postgres {found}, here is {told.strip()}: `make clean` drops it")


def server_user() -> str | None:
    """As whom Postgres must run: ``postgres`` when we are root, None (as we are) otherwise."""
    return "postgres" if os.geteuid() == 0 else None
