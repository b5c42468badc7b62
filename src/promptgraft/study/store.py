"""The store of a study: trials, their state and their results, in SQLite (one file) or PostgreSQL (by URL).

A driver claims a trial, and writes its result together with its new state, each in one transaction, so a trial has one
result whatever is killed and whenever. No clock decides anything: a driver is alive while it holds the lock of its
file in the study's folder, which dies with the process.
"""

import contextlib
import os
import secrets
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from json import JSONDecodeError
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from promptgraft.errors import InputError
from promptgraft.files import path_text
from promptgraft.study.facts import Fact
from promptgraft.study.migrations import upgrade
from promptgraft.study.schema import alone, facts, members, results, studies, trials
from promptgraft.study.trial import Failure, Outcome, Trial

try:
    import fcntl
except (
    ImportError
):  # Windows: a driver that was killed is not told from one that lives; `retry --running` frees trials
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")
PATIENCE = 120.0
"""Seconds for which a store that is locked, or a server that restarts, is tried again."""
_CHUNK = 500  # keys in one statement
_PASSING = (
    *("locked", "busy", "deadlock", "could not serialize"),
    *("starting up", "shutting down", "in recovery mode", "not yet accepting", "terminating connection"),
    *("connection refused", "is the server running", "server closed", "closed unexpectedly", "connection reset"),
    *("connection timeout", "the connection is lost"),
)
"""What SQLite, PostgreSQL and psycopg say of troubles that pass."""


@dataclass(frozen=True)
class Record:
    """One trial as the store knows it; `outcome` (without artefacts' contents) where it is done."""

    key: str
    kind: str
    state: str
    labels: Mapping[str, Any]
    owner: str | None
    error: str | None
    traceback: str | None
    result: Mapping[str, Any] | None
    measured: Mapping[str, Any] | None
    artefacts: Mapping[str, str] | None


class Store:
    """The trials of one study.

    Args:
        folder: of the study; it holds `study.sqlite` and the drivers' lock files.
        url: of a PostgreSQL database that is used instead of `study.sqlite`.
        study: its name; a database may hold several.

    Raises:
        InputError: the database cannot be opened, is not a store, or is of a newer promptgraft.
    """

    def __init__(self, folder: Path, study: str, url: str | None = None) -> None:
        self.folder, self.study = folder, study
        self.path = None if url else folder / "study.sqlite"
        self.owner: str | None = None
        if url:
            self._engine = _postgres(url)
        else:
            self._engine = sa.create_engine(sa.URL.create("sqlite", database=str(self.path)))
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
            sa.event.listen(self._engine, "begin", _begin)
        self._trying(lambda: upgrade(self._engine, self.shown))

    @property
    def shown(self) -> str:
        """The store's name for messages, without a password."""
        if self.path is not None:
            return path_text(self.path)
        return self._engine.url.set(query={}).render_as_string(hide_password=True)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    # what is planned

    def register(self, spec: Mapping[str, Any], planned: Sequence[Trial], rests_on: Iterable[Fact]) -> None:
        """Make `planned` the study's trials; results that are there already stay and are found by their keys.

        Raises:
            InputError: data, weights or a prompt are others than those that the study began with; names what changed.
        """
        now = list(rests_on)
        self._trying(lambda: self._register(spec, planned, now))

    def _register(self, spec: Mapping[str, Any], planned: Sequence[Trial], now: Sequence[Fact]) -> None:
        with self._engine.begin() as db:
            alone(db)
            self._refuse_changes(db, now)
            db.execute(sa.delete(studies).where(studies.c.study == self.study))
            db.execute(sa.insert(studies).values(study=self.study, spec=dict(spec)))
            known = {(row.kind, row.name) for row in db.execute(sa.select(facts).where(facts.c.study == self.study))}
            fresh = [
                {"study": self.study, "kind": f.kind, "name": f.name, "value": f.value, "files": dict(f.files)}
                for f in now
                if (f.kind, f.name) not in known
            ]
            if fresh:
                db.execute(sa.insert(facts), fresh)
            db.execute(sa.delete(members).where(members.c.study == self.study))
            there = {row.key for row in db.execute(sa.select(trials.c.key))}
            new = [
                {"key": trial.key, "kind": trial.kind, "state": "pending"}
                for trial in planned
                if trial.key not in there
            ]
            if new:
                db.execute(sa.insert(trials), new)
            rows = [
                {"study": self.study, "key": trial.key, "position": position, "labels": trial.labels}
                for position, trial in enumerate(planned)
            ]
            if rows:
                db.execute(sa.insert(members), rows)

    def _refuse_changes(self, db: sa.Connection, now: Sequence[Fact]) -> None:
        before = {
            (row.kind, row.name): Fact(row.kind, row.name, row.value, row.files)
            for row in db.execute(sa.select(facts).where(facts.c.study == self.study))
        }
        for fact in now:
            was = before.get((fact.kind, fact.name))
            if was is not None and was.value != fact.value:
                raise InputError(
                    f"{fact.kind} {fact.name} changed since study {self.study} began: {was.differences(fact)}. Put it "
                    "back as it was, or start a new study in another folder."
                )

    def spec(self) -> dict[str, Any] | None:
        """The specification that was last registered, None before the first."""
        found = self._rows(sa.select(studies.c.spec).where(studies.c.study == self.study))
        return found[0].spec if found else None

    def facts(self) -> list[Fact]:
        """Data, weights and library prompts that the study rests on."""
        found = self._rows(sa.select(facts).where(facts.c.study == self.study).order_by(facts.c.kind, facts.c.name))
        return [Fact(row.kind, row.name, row.value, row.files) for row in found]

    # what is going on

    def states(self, keys: Sequence[str] | None = None) -> dict[str, str]:
        """State of trials by key: of `keys`, or of the study's in the order of the plan."""
        if keys is None:
            query = (
                sa.select(trials.c.key, trials.c.state)
                .join(members, members.c.key == trials.c.key)
                .where(members.c.study == self.study)
                .order_by(members.c.position)
            )
            return dict(self._rows(query))
        return dict(self._of(sa.select(trials.c.key, trials.c.state), trials.c.key, keys))

    def outcomes(self, keys: Sequence[str]) -> dict[str, tuple[dict[str, Any], dict[str, str]]]:
        """Result and artefacts (path inside the study's folder -> sha256) of those of `keys` that are done."""
        query = sa.select(results.c.key, results.c.result, results.c.artefacts)
        query = query.join(trials, trials.c.key == results.c.key).where(trials.c.state == "done")
        return {row.key: (row.result, row.artefacts) for row in self._of(query, results.c.key, keys)}

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of trials by kind and state."""
        query = (
            sa.select(trials.c.kind, trials.c.state, sa.func.count())
            .join(members, members.c.key == trials.c.key)
            .where(members.c.study == self.study)
            .group_by(trials.c.kind, trials.c.state)
            .order_by(trials.c.kind, trials.c.state)
        )
        found: dict[str, dict[str, int]] = {}
        for kind, state, count in self._rows(query):
            found.setdefault(kind, {})[state] = count
        return found

    def known(self, keys: Sequence[str]) -> set[str]:
        """Those of `keys` that are done."""
        return {key for key, state in self.states(keys).items() if state == "done"}

    def records(self, *, state: str | None = None, curves: bool = True) -> list[Record]:
        """All trials of the study, or those in one state, in the order of the plan."""
        columns: list[Any] = [trials, members.c.labels, results.c.measured, results.c.artefacts]
        if curves:
            columns.append(results.c.result)
        query = (
            sa.select(*columns)
            .join(members, members.c.key == trials.c.key)
            .outerjoin(results, results.c.key == trials.c.key)
            .where(members.c.study == self.study)
            .order_by(members.c.position)
        )
        if state is not None:
            query = query.where(trials.c.state == state)
        return [_record(row._mapping) for row in self._rows(query)]

    def record(self, key: str) -> Record:
        """One trial by its key or the first digits of it.

        Raises:
            InputError: the study has no such trial, or several.
        """
        query = (
            sa.select(trials, members.c.labels, results.c.measured, results.c.artefacts, results.c.result)
            .join(members, members.c.key == trials.c.key)
            .outerjoin(results, results.c.key == trials.c.key)
            .where(members.c.study == self.study)
            .where(trials.c.key == key if len(key) == 64 else trials.c.key.startswith(key, autoescape=True))
            .limit(2)
        )
        found = self._rows(query)
        if len(found) != 1:
            what = "no trial" if not found else "several trials"
            raise InputError(
                f"study {self.study} has {what} whose key starts with {key!r}. `promptgraft study report` lists them."
            )
        return _record(found[0]._mapping)

    # a driver's part

    @contextlib.contextmanager
    def driving(self) -> Iterator[None]:
        """Be a driver while the block runs: may claim trials, and gives back those that it has not finished."""
        token = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        path = self._lock_path(token)
        with self._locked(path):
            self.owner = token
            try:
                yield
            finally:
                with contextlib.suppress(InputError):
                    self._release(None, patience=0.0)
                    path.unlink(missing_ok=True)  # else it stays, unlocked: whoever drives next takes these trials
                self.owner = None

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(exist_ok=True)
                stream = stack.enter_context(path.open("w"))
                if fcntl is not None:
                    fcntl.flock(stream, fcntl.LOCK_EX)
            except OSError as error:
                raise InputError(
                    f"cannot write {path_text(path)}: {error.strerror or error}. Free some space or choose another "
                    "place."
                ) from error
            yield

    def claim(self, keys: Sequence[str]) -> str | None:
        """Take the first of `keys` that is free, or whose driver has died; None where there is none."""
        return self._trying(lambda: self._claim(keys))

    def _claim(self, keys: Sequence[str]) -> str | None:
        for key in keys:
            with self._engine.begin() as db:
                row = db.execute(sa.select(trials.c.state, trials.c.owner).where(trials.c.key == key)).one_or_none()
                if row is None or row.state in ("done", "failed"):
                    continue
                if row.state == "running" and row.owner != self.owner and self._alive(row.owner):
                    continue
                taken = db.execute(
                    sa.update(trials)
                    .where(
                        trials.c.key == key,
                        trials.c.state == row.state,
                        trials.c.owner.is_not_distinct_from(row.owner),
                    )
                    .values(state="running", owner=self.owner)
                )
                if taken.rowcount == 1:
                    return key
        return None

    def finish(
        self, key: str, outcome: Outcome, artefacts: Mapping[str, str], write: Callable[[], object] = lambda: None
    ) -> bool:
        """Write a result and its state together; False if the trial is no longer this driver's.

        Args:
            key: of the trial.
            outcome: what it made.
            artefacts: path inside the study's folder -> sha256 of the files that it left.
            write: puts these files there; called only while nobody else can take the trial.
        """
        row = {"result": outcome.result, "measured": outcome.measured, "artefacts": dict(artefacts)}
        return self._trying(lambda: self._end(key, "done", None, row, write))

    def fail(self, key: str, failure: Failure) -> bool:
        """Write down that a trial failed and why; False if the trial is no longer this driver's."""
        return self._trying(lambda: self._end(key, "failed", failure, None, lambda: None))

    def _end(
        self,
        key: str,
        state: str,
        failure: Failure | None,
        result: Mapping[str, Any] | None,
        write: Callable[[], object],
    ) -> bool:
        values = {
            "error": None if failure is None else _storable(failure.message),
            "traceback": None if failure is None else _storable(failure.traceback),
        }
        with self._engine.begin() as db:
            # the owner stays, so that one whose commit was done and whose answer was lost may ask again
            mine = (trials.c.key == key, trials.c.owner == self.owner, trials.c.state.in_(("running", state)))
            if db.execute(sa.update(trials).where(*mine).values(state=state, **values)).rowcount != 1:
                return False
            db.execute(sa.delete(results).where(results.c.key == key))
            if result is not None:
                write()
                db.execute(sa.insert(results).values(key=key, **result))
            return True

    def release(self, keys: Sequence[str] | None = None) -> None:
        """Give back trials that this driver has claimed and not finished: all, or `keys`."""
        self._release(keys)

    def _release(self, keys: Sequence[str] | None, patience: float | None = None) -> None:
        mine = [trials.c.state == "running", trials.c.owner == self.owner]
        if keys is not None:
            mine.append(trials.c.key.in_(list(keys)))
        self._write(sa.update(trials).where(*mine).values(state="pending", owner=None), patience=patience)

    def redo(self, keys: Sequence[str], state: str | None = None) -> int:
        """Make trials pending again, or those of them in a state, their results forgotten; the number of them."""
        count = 0
        for start in range(0, len(keys), _CHUNK):
            count += self._trying(partial(self._redo, keys[start : start + _CHUNK], state))
        return count

    def _redo(self, keys: Sequence[str], state: str | None) -> int:
        chosen: list[sa.ColumnElement[bool]] = [trials.c.key.in_(list(keys))]
        if state is not None:
            chosen.append(trials.c.state == state)
        again = {"state": "pending", "owner": None, "error": None, "traceback": None}
        with self._engine.begin() as db:
            changed = list(db.scalars(sa.update(trials).where(*chosen).values(**again).returning(trials.c.key)))
            db.execute(sa.delete(results).where(results.c.key.in_(changed)))
        return len(changed)

    def orphans(self) -> list[str]:
        """Keys of running trials whose driver is known to have died."""
        query = (
            sa.select(trials.c.key, trials.c.owner)
            .join(members, members.c.key == trials.c.key)
            .where(members.c.study == self.study, trials.c.state == "running")
        )
        return [key for key, owner in self._rows(query) if not self._alive(owner)]

    def _alive(self, owner: str | None) -> bool:
        if owner is None:
            return False
        try:
            with self._lock_path(owner).open() as stream:
                if fcntl is None:
                    return True
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that ask do not see each other
        except FileNotFoundError:  # SQLite's drivers share this folder; PostgreSQL's may have another, elsewhere
            return self.path is None
        except OSError:
            return True
        return False

    def _lock_path(self, owner: str) -> Path:
        return self.folder / ".drivers" / Path(owner).name

    # the database

    def _rows(self, query: sa.Select[Any]) -> list[Any]:
        def read() -> list[Any]:
            with self._engine.connect().execution_options(reads=True) as db:
                return list(db.execute(query))

        return self._trying(read)

    def _of(self, query: sa.Select[Any], column: sa.Column[str], keys: Sequence[str]) -> Iterator[Any]:
        for start in range(0, len(keys), _CHUNK):
            yield from self._rows(query.where(column.in_(list(keys[start : start + _CHUNK]))))

    def _write(self, *statements: sa.Executable, patience: float | None = None) -> None:
        def write() -> None:
            with self._engine.begin() as db:
                for statement in statements:
                    db.execute(statement)

        self._trying(write, patience)

    def _trying(self, act: Callable[[], T], patience: float | None = None) -> T:
        """Do something with the database; wait and try again while it is locked or its server restarts."""
        patience = PATIENCE if patience is None else patience
        started, pause = time.monotonic(), 0.1
        while True:
            try:
                return act()
            except (SQLAlchemyError, JSONDecodeError) as error:
                if not _passes(error) or time.monotonic() - started >= patience:
                    raise InputError(self._cannot(error)) from error
                if pause == 0.1:
                    warnings.warn(f"store {self.shown}: {_reason(error)}. Trying again.", stacklevel=2)
            self._engine.dispose()
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _cannot(self, error: Exception) -> str:
        reason = _reason(error)
        cure = "Check that it is a study's store and can be read and written."
        if "locked" in reason:
            cure = "Another program holds it; end that one and resume."
        elif "full" in reason or "No space" in reason:
            cure = "Free some space and resume."
        elif self.path is None:
            cure = "Check the URL, and that the server runs."
        elif isinstance(error, JSONDecodeError) or "malformed" in reason or "not a database" in reason:
            cure = "It is damaged, or no study's store: put a copy back, or move it away and run the study anew."
        return f"store {self.shown}: {reason}. {cure}"


def _passes(error: Exception) -> bool:
    """Whether waiting may help: a lock, or a server that is not there just now."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    text = str(getattr(error, "orig", "")).lower()
    return isinstance(error, OperationalError) and any(sign in text for sign in _PASSING)


def _reason(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def _storable(text: str) -> str:
    """Text that every database takes: names of files may hold bytes that are no characters."""
    return path_text(text).replace("\0", "\\x00")


def _postgres(url: str) -> sa.Engine:
    like = "Write it like postgresql+psycopg://user@host/name"
    try:
        parsed = sa.make_url(url)
    except (SQLAlchemyError, ValueError):  # whose message may hold a part of the password
        raise InputError(
            f"the store's URL cannot be read. {like}, with signs such as @ and / in a password as %40 and %2F."
        ) from None
    if parsed.get_backend_name() != "postgresql":
        raise InputError(f"a store is PostgreSQL, or SQLite without any URL; got {parsed.drivername}://. {like}.")
    patient = {} if "connect_timeout" in parsed.query else {"connect_timeout": 10}
    try:
        return sa.create_engine(parsed, pool_pre_ping=True, connect_args=patient)
    except (SQLAlchemyError, ImportError) as error:
        raise InputError(
            f"the store's URL needs a driver ({_reason(error)}). {like} after pip install 'promptgraft[postgres]'."
        ) from error


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    # a second, and then `_trying` tries again: SQLite does not heed Ctrl-C while it waits
    for pragma in ("busy_timeout=1000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    """Writers queue up before they read; readers of a write-ahead log wait for nobody."""
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _record(row: Mapping[str, Any]) -> Record:
    return Record(
        key=row["key"],
        kind=row["kind"],
        state=row["state"],
        labels=row["labels"],
        owner=row["owner"],
        error=row["error"],
        traceback=row["traceback"],
        result=row.get("result"),
        measured=row["measured"],
        artefacts=row["artefacts"],
    )
