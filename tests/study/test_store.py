import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from stand_in import order

from promptgraft.errors import InputError
from promptgraft.study import store as room
from promptgraft.study.facts import Fact
from promptgraft.study.migrations import HEAD
from promptgraft.study.schema import VERSION_TABLE, metadata, trials
from promptgraft.study.store import Store
from promptgraft.study.trial import Failure, Outcome, Trial

MakeStore = Callable[..., Store]
TRIALS = [Trial("train", {"n": n}, labels={"method": "vpt", "target": f"data {n}", "seed": n}) for n in range(5)]
KEYS = [trial.key for trial in TRIALS]
A, B, C, D, E = KEYS
OUTCOME = Outcome({"test_accuracy": 0.5, "curve": [[0, None, 0.25]]}, {"seconds": 1.5}, {})
FAILURE = Failure("ValueError: no", "Traceback: no")
DRIVER = """
import sys, time
from pathlib import Path
from promptgraft.study.store import Store
store = Store(Path(sys.argv[1]), "tiny", sys.argv[2] or None)
with store.driving():
    print(store.claim(sys.argv[3:]), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    """A store with `TRIALS`, all of them pending."""
    made = make_store()
    made.register({"study": "tiny"}, TRIALS, [])
    return made


def url_of(store: Store) -> str | None:
    return None if store.path is not None else store._engine.url.render_as_string(hide_password=False)


def states(store: Store) -> list[str]:
    return list(store.states().values())


def in_threads(acts: Sequence[Callable[[], object]]) -> None:
    """All at once; the first exception of any is raised here."""
    barrier, raised = threading.Barrier(len(acts)), []

    def run(act: Callable[[], object]) -> None:
        barrier.wait()
        try:
            act()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


# one driver


def test_a_trial_goes_from_pending_to_done(store: Store) -> None:
    assert store.states() == dict.fromkeys(KEYS, "pending")
    with store.driving():
        assert store.claim([B, A]) == B
        assert store.record(B[:10]).state == "running"
        assert store.finish(B, OUTCOME, {"prompts/x": "0" * 64})
        assert store.claim([B]) is None
        assert store.claim([B, C]) == C
    assert states(store) == ["pending", "done", "pending", "pending", "pending"]
    assert store.counts() == {"train": {"pending": 4, "done": 1}}
    assert store.known(KEYS) == {B}
    assert store.outcomes(KEYS) == {B: (OUTCOME.result, {"prompts/x": "0" * 64})}
    record = store.record(B)
    assert (record.result, record.measured) == (OUTCOME.result, OUTCOME.measured)
    assert record.artefacts == {"prompts/x": "0" * 64}
    assert [r.labels for r in store.records()] == [trial.labels for trial in TRIALS]


def test_a_trial_that_failed_waits_for_redo(store: Store) -> None:
    with store.driving():
        store.claim([A])
        assert store.fail(A, FAILURE)
        assert store.claim([A]) is None
        record = store.record(A)
        assert (record.state, record.error, record.traceback) == ("failed", FAILURE.message, FAILURE.traceback)
        assert store.redo([A]) == 1
        assert store.claim([A]) == A
        assert store.finish(A, OUTCOME, {})
    record = store.record(A)
    assert (record.state, record.error, record.traceback) == ("done", None, None)


def test_redo_forgets_the_result_of_trials_in_a_state(store: Store) -> None:
    with store.driving():
        for key in (A, B):
            store.claim([key])
        store.finish(A, OUTCOME, {})
        assert store.redo([A, B, C], "done") == 1
        assert states(store)[:3] == ["pending", "running", "pending"]
        assert store.record(A).result is None
        assert store.outcomes([A]) == {}


def test_release_gives_back_what_is_not_finished(store: Store) -> None:
    with store.driving():
        for key in (A, B, C):
            store.claim([key])
        store.finish(A, OUTCOME, {})
        store.release([B])
        assert states(store)[:3] == ["done", "pending", "running"]
        store.release()
        assert states(store)[:3] == ["done", "pending", "pending"]
        store.claim([D])
        held = store.record(D).owner
        assert held is not None
        assert (store.folder / ".drivers" / held).exists()
    assert states(store)[3] == "pending"
    assert not list((store.folder / ".drivers").iterdir())


def test_results_stay_when_the_plan_changes(store: Store) -> None:
    with store.driving():
        store.claim([C])
        store.finish(C, OUTCOME, {})
    more = order("add", n=9)
    store.register({"study": "more"}, [more, TRIALS[2], TRIALS[0]], [])
    assert store.states() == {more.key: "pending", C: "done", A: "pending"}
    assert store.states([B, C]) == {B: "pending", C: "done"}
    assert store.spec() == {"study": "more"}
    with pytest.raises(InputError, match="no trial whose key starts with"):
        store.record(B)
    with pytest.raises(InputError, match="several trials whose key starts with ''"):
        store.record("")


def test_text_that_no_database_takes_is_written_down(store: Store) -> None:
    with store.driving():
        store.claim([A])
        assert store.fail(A, Failure("photo \udcff.png holds \0", "in \udcff \0"))
    assert store.record(A).error == r"photo \udcff.png holds \x00"


def test_a_commit_whose_answer_was_lost_is_no_lost_trial(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def losing(name: str) -> None:
        act, lost = getattr(store, name), []

        def once(*arguments: Any) -> Any:
            made = act(*arguments)
            if not lost:
                lost.append(True)
                raise sa.exc.OperationalError("COMMIT", None, Exception("server closed the connection unexpectedly"))
            return made

        monkeypatch.setattr(store, name, once)

    losing("_claim")
    losing("_end")
    told = r"server closed the connection unexpectedly\. Trying again\."
    with store.driving():
        with pytest.warns(match=told):
            assert store.claim([A, B]) == A
        with pytest.warns(match=told):
            assert store.finish(A, OUTCOME, {})
    assert states(store)[:2] == ["done", "pending"]
    assert store.record(A).result == OUTCOME.result


# several drivers


def test_a_trial_is_one_drivers(store: Store, make_store: MakeStore) -> None:
    other = make_store()
    with store.driving(), other.driving():
        assert store.claim([A, B]) == A
        assert other.claim([A, B]) == B
        assert other.claim([A]) is None
        assert not other.finish(A, OUTCOME, {})
        assert not other.fail(A, FAILURE)
        other.release()
        assert states(store)[:2] == ["running", "pending"]
        assert store.finish(A, OUTCOME, {})
        assert not other.finish(A, Outcome({"test_accuracy": 1.0}), {})
    assert store.record(A).result == OUTCOME.result


def test_a_trial_that_was_taken_away_is_not_finished(store: Store, make_store: MakeStore) -> None:
    other, written = make_store(), []
    with store.driving(), other.driving():
        for _ in range(2):
            store.claim([A])
            assert other.redo([A]) == 1
            assert not store.finish(A, OUTCOME, {}, lambda: written.append("file"))
            assert not store.fail(A, FAILURE)
            assert store.record(A).state == "pending"
            assert store.record(A).result is None
        store.claim([A])
        other.redo([A])
        assert other.claim([A]) == A
        assert not store.finish(A, OUTCOME, {}, lambda: written.append("file"))
        store.release()
        assert store.record(A).owner == other.owner
        assert other.fail(A, FAILURE)
    assert not written
    assert store.record(A).error == FAILURE.message


def test_nothing_is_written_where_the_files_cannot_be(store: Store) -> None:
    def full() -> None:
        raise InputError("no space")

    with store.driving():
        store.claim([A])
        with pytest.raises(InputError, match="no space"):
            store.finish(A, OUTCOME, {"x": "0"}, full)
        assert store.record(A).state == "running"
        assert store.record(A).artefacts is None
        assert store.finish(A, OUTCOME, {})


def test_no_trial_is_claimed_or_finished_twice(make_store: MakeStore) -> None:
    planned, barrier = [order("add", n=n) for n in range(60)], threading.Barrier(4)
    keys = [trial.key for trial in planned]
    done: list[str] = []
    half_ran = sa.update(trials).where(trials.c.key.in_(keys[::2]), trials.c.state == "pending")

    def drive(number: int) -> None:
        store = make_store()  # all make the tables at the same time
        store.register({}, planned, [])
        store._write(half_ran.values(state="running"))  # by a driver that is known to have died
        barrier.wait()
        given_back: set[str] = set()
        with store.driving():
            while (key := store.claim(keys)) is not None:
                if key.startswith(("1", "5", "9")) and key not in given_back:
                    given_back.add(key)
                    store.release([key])
                else:
                    assert store.finish(key, Outcome({"by": number}), {})
                    done.append(key)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        in_threads([lambda n=n: drive(n) for n in range(4)])
    assert sorted(done) == sorted(keys)
    store = make_store()
    assert set(store.states().values()) == {"done"}
    assert all(record.result is not None for record in store.records())


def test_drivers_may_register_at_the_same_time(make_store: MakeStore) -> None:
    stores = [make_store() for _ in range(3)]
    facts = [Fact("data", "photos", "1" * 64, {"a.png": "1"})]

    def register(number: int) -> None:
        for n in range(5):
            stores[number].register({"by": number}, TRIALS[: 1 + (n + number) % 5], facts)

    in_threads([lambda n=n: register(n) for n in range(3)])
    assert stores[0].spec() in ({"by": 0}, {"by": 1}, {"by": 2})
    assert list(stores[0].states()) == KEYS[: len(stores[0].states())]


@pytest.fixture
def spawn(store: Store) -> Generator[Callable[..., Any], None, None]:
    """`spawn(*keys)`: a process that has claimed the first of these."""
    started = []

    def start(*keys: str, folder: Path = store.folder) -> Any:
        command = [sys.executable, "-c", DRIVER, str(folder), url_of(store) or "", *keys]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == keys[0]
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_trials_of_a_driver_that_was_killed_are_free(store: Store, spawn: Callable[..., Any]) -> None:
    driver = spawn(A)
    with store.driving():
        assert store.claim([A]) is None
        assert store.orphans() == []
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert store.orphans() == [A]
        assert store.claim([A]) == A
        assert store.orphans() == []
        assert store.finish(A, OUTCOME, {})


def test_trials_that_could_not_be_given_back_are_free(
    store: Store, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_store()

    def gone(*_: object) -> None:
        raise sa.exc.OperationalError("BEGIN", None, Exception("connection refused"))

    with store.driving():
        store.claim([A])
        monkeypatch.setattr(store._engine, "begin", gone)
    monkeypatch.undo()
    assert other.record(A).state == "running"
    with other.driving():
        assert other.claim([A]) == A


def test_studies_share_trials(make_store: MakeStore) -> None:
    one, two = make_store("one"), make_store("two")
    renamed = [Trial(t.kind, t.identity, labels={"method": "renamed"}) for t in TRIALS[1:]]
    one.register({"study": "one"}, TRIALS[:3], [Fact("data", "photos", "1" * 64)])
    two.register({"study": "two"}, renamed, [Fact("data", "photos", "2" * 64)])
    with one.driving(), two.driving():
        assert one.claim([B]) == B
        assert two.claim([B, C]) == C
        assert one.finish(B, OUTCOME, {})
        assert two.known([B]) == {B}
        assert two.claim([B]) is None
    assert one.counts() == {"train": {"done": 1, "pending": 2}}
    assert two.counts() == {"train": {"done": 1, "pending": 3}}
    assert two.record(B).labels == {"method": "renamed"}
    assert (one.spec(), two.spec()) == ({"study": "one"}, {"study": "two"})
    assert make_store("three").spec() is None


def test_what_a_study_rests_on_may_not_change(store: Store) -> None:
    began = Fact("data", "photos", "1" * 64, {"a.png": "1", "b.png": "2", "c.png": "3"})
    store.register({"study": "first"}, TRIALS, [began, Fact("weights", "dir:vit", "3" * 64)])
    now = Fact("data", "photos", "2" * 64, {"a.png": "0", "c.png": "3", "d.png": "4"})
    told = "a.png was altered, b.png is missing, d.png is new. Put it back as it was, or start a new study"
    with pytest.raises(InputError, match=f"data photos changed since study tiny began: {told}"):
        store.register({"study": "second"}, TRIALS[:1], [now])
    with pytest.raises(
        InputError, match=r"weights dir:vit changed .* its sha256 was 333333333333 and is 444444444444"
    ):
        store.register({"study": "second"}, TRIALS[:1], [Fact("weights", "dir:vit", "4" * 64)])
    assert store.spec() == {"study": "first"}
    assert len(store.states()) == 5
    store.register({"study": "second"}, TRIALS, [began, Fact("data", "texts", "5" * 64)])


# the database


def test_the_migrations_make_the_schema(make_store: MakeStore) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with make_store()._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": VERSION_TABLE})
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, metadata) == []


def test_a_store_of_a_newer_version_is_refused(store: Store, make_store: MakeStore) -> None:
    with store._engine.begin() as connection:
        connection.execute(sa.text("UPDATE promptgraft_version SET version_num = '9999'"))
    told = r"was made by a newer promptgraft \(schema 9999\): pip install -U promptgraft"
    with pytest.raises(InputError, match=told):
        make_store()
    with store._engine.connect() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM promptgraft_version")).scalar() == "9999"


@pytest.fixture
def sqlite(tmp_path: Path) -> Generator[Store, None, None]:
    """A store in SQLite with `TRIALS`, all of them pending."""
    made = Store(tmp_path, "tiny")
    made.register({"study": "tiny"}, TRIALS, [])
    yield made
    made.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "study.sqlite"
    place.write_text("a text that is no database, and long enough to be one\n" * 20)
    with pytest.raises(InputError, match=r"study.sqlite: file is not a database. It is damaged, or no study's store"):
        Store(tmp_path, "tiny")
    assert place.read_text().startswith("a text")
    place.unlink()
    place.mkdir()
    with pytest.raises(InputError, match=r"study.sqlite: unable to open database file. Check that it is"):
        Store(tmp_path, "tiny")
    with pytest.raises(InputError, match=r"nowhere/study.sqlite: unable to open database file. Check that it is"):
        Store(tmp_path / "nowhere", "tiny")


@pytest.mark.parametrize("name", ["with a ? and # and %41", "caf\u00e9", "it's"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    Store(tmp_path / name, "tiny").close()
    assert (tmp_path / name / "study.sqlite").is_file()


def test_a_damaged_database_is_refused(sqlite: Store, tmp_path: Path) -> None:
    with sqlite.driving():
        for key in KEYS:
            sqlite.claim([key])
            sqlite.finish(key, Outcome({"curve": [[n, 0.5] for n in range(500)]}), {})
    sqlite.close()
    file = tmp_path / "study.sqlite"
    whole = file.read_bytes()
    damaged = bytearray(whole)
    for start in range(4096, len(damaged), 4096):
        damaged[start : start + 200] = bytes(200)
    file.write_bytes(damaged)
    with pytest.raises(InputError, match=r"study.sqlite: .*malformed. It is damaged, or no study's store: put a copy"):
        Store(tmp_path, "tiny").records()
    file.write_bytes(whole.replace(b"[[0, 0.5]", b"[{0, 0.5]"))
    with pytest.raises(InputError, match=r"study.sqlite: .* It is damaged, or no study's store: put a copy back"):
        Store(tmp_path, "tiny").records()


@contextlib.contextmanager
def plain_user() -> Generator[Path, None, None]:
    """A folder that a user who is not root may look into, as this user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root = os.geteuid() == 0
        folder.chmod(0o555)
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with plain_user() as folder, pytest.raises(InputError, match=r"study.sqlite: unable to open database file. Check"):
        Store(folder, "tiny")


def test_a_store_that_cannot_be_written_is_refused() -> None:
    with plain_user() as folder:
        if os.getuid() == 0:
            os.seteuid(0)
        folder.chmod(0o755)
        store = Store(folder, "tiny")
        store.register({"study": "tiny"}, TRIALS, [])
        store.close()
        folder.chmod(0o555)
        (folder / "study.sqlite").chmod(0o444)
        if os.getuid() == 0:
            os.seteuid(65534)
        with pytest.raises(InputError, match=r"study.sqlite: .*\. Check that it is a study's store and can be read"):
            Store(folder, "tiny").register({"study": "tiny"}, TRIALS, [])


def test_a_driver_that_cannot_be_written_down_is_refused(sqlite: Store, tmp_path: Path) -> None:
    (tmp_path / ".drivers").write_text("in its place")
    with pytest.raises(InputError, match=r"cannot write .*\.drivers/.*: .* Free some space"), sqlite.driving():
        pass


@pytest.fixture
def hold(tmp_path: Path) -> Generator[Callable[[], sqlite3.Connection], None, None]:
    """Another program that locks the store until its connection is closed."""
    connections = []

    def lock() -> sqlite3.Connection:
        connection = sqlite3.connect(tmp_path / "study.sqlite", isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN EXCLUSIVE")
        connections.append(connection)
        return connection

    yield lock
    for connection in connections:
        connection.close()


def test_a_store_that_is_locked_for_a_while_is_waited_for(sqlite: Store, hold: Callable[..., Any]) -> None:
    with sqlite.driving():
        connection = hold()
        assert sqlite.record(A).state == "pending"  # readers do not wait
        other = Store(sqlite.folder, "tiny")  # nor does who opens it to look
        assert other.counts() == {"train": {"pending": 5}}
        threading.Timer(1.3, connection.close).start()
        with pytest.warns(match=r"study.sqlite: database is locked. Trying again."):
            assert sqlite.claim([A]) == A
    assert sqlite.record(A).state == "pending"


def test_a_store_that_stays_locked_is_named(
    sqlite: Store, hold: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite.driving():
        sqlite.claim([A])
        connection = hold()
        monkeypatch.setattr(room, "PATIENCE", 0.0)
        told = r"study.sqlite: database is locked. Another program holds it; end that one and resume."
        with pytest.raises(InputError, match=told):
            sqlite.finish(A, OUTCOME, {"x": "0"})
        connection.close()
        assert sqlite.record(A).state == "running"
        assert sqlite.record(A).result is None
        assert sqlite.finish(A, OUTCOME, {})


def test_a_full_disk_is_named_and_nothing_half_written(sqlite: Store) -> None:
    def fill(connection: Any, _: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # no less than there are

    large = Outcome({"curve": [[n, 0.123456789] for n in range(20_000)]})
    with sqlite.driving():
        sqlite.claim([A])
        sa.event.listen(sqlite._engine, "connect", fill)
        sqlite.close()
        with pytest.raises(InputError, match=r"study.sqlite: database or disk is full. Free some space and resume."):
            sqlite.finish(A, large, {})
        sa.event.remove(sqlite._engine, "connect", fill)
        sqlite.close()
        assert sqlite.record(A).state == "running"
        assert sqlite.record(A).result is None
        assert sqlite.finish(A, large, {})
    assert sqlite.record(A).result == large.result
