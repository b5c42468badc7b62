"""A PostgreSQL server of the tests' own, from the programs of this machine."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


class Postgres:
    """A server that runs in a temporary folder; root starts it as somebody else, as it demands."""

    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        self._programs, self._folder, self._user = programs, folder, user
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._count = 0
        self._run("initdb", "--auth=trust", "--username=tester", "--encoding=UTF8", "--no-locale", "--no-sync")
        settings = {
            "port": self.port,
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": f"'{folder}'",
            "fsync": "off",
        }
        with (folder / "data" / "postgresql.conf").open("a") as stream:
            stream.writelines(f"{name} = {value}\n" for name, value in settings.items())
        self.start()
        end = 'cat; kill -QUIT $(head -1 data/postmaster.pid); rm -rf "$PWD"'  # also where the tests are killed
        self._guard = subprocess.Popen(
            ["sh", "-c", end], user=user, cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
        )

    def end(self) -> None:
        """Stop the server for good, and remove its folder."""
        self._guard.communicate()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        made = subprocess.run(
            command,
            user=self._user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # no pipe: the server would hold it open
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
        assert made.returncode == 0, (command, (self._folder / "log").read_text() if program == "pg_ctl" else "")

    def database(self) -> str:
        """The URL of a new, empty schema, which is as good as a database and made in no time."""
        import psycopg

        self._count += 1
        name = f"store{self._count}"
        server = f"host=127.0.0.1 port={self.port} user=tester dbname=postgres"
        with psycopg.connect(server, autocommit=True) as db:
            db.execute(f"CREATE SCHEMA {name}")
        return f"postgresql+psycopg://tester@127.0.0.1:{self.port}/postgres?options=-csearch_path%3D{name}"

    def by_socket(self, url: str) -> str:
        """The same by the server's Unix socket."""
        return f"{url.replace(f'127.0.0.1:{self.port}', '')}&host={self._folder}&port={self.port}"

    def start(self) -> None:
        """Start it, again after `stop`."""
        self._run("pg_ctl", "start", "-w", "-l", str(self._folder / "log"))

    def stop(self) -> None:
        """End it as a power cut would."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def restart(self) -> None:
        """End it as a power cut would, and start it again."""
        self._run("pg_ctl", "restart", "-w", "-m", "immediate", "-l", str(self._folder / "log"))


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server while the block runs; skips the test where there is none to run."""
    pytest.importorskip("psycopg")
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places or not (places[-1] / "pg_ctl").exists():
        pytest.skip("PostgreSQL is not installed here: no initdb and pg_ctl")
    user = None
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = next((name for name in ("postgres", "nobody") if name in names), None)
        if user is None:
            pytest.skip("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`")
    folder = Path(tempfile.mkdtemp(prefix="promptgraft-postgres-"))  # a socket's path must be short
    try:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        server = Postgres(places[-1], folder, user)
        try:
            yield server
        finally:
            server.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
