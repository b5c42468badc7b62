import re
import signal
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from comparing import Calm, findings
from drivers import Nursery, await_finished, finished
from servers import Postgres
from stand_in import order

from promptgraft.errors import InputError
from promptgraft.study import store as room
from promptgraft.study.store import Store
from promptgraft.study.trial import Outcome, Trial

TRIALS = [order("add", n=n) for n in range(3)]
A, B, C = (trial.key for trial in TRIALS)
OUTCOME = Outcome({"test_accuracy": 0.5})


@pytest.fixture
def store(postgres: Postgres, tmp_path: Path) -> Store:
    """A store with `TRIALS`, all of them pending."""
    made = Store(tmp_path, "tiny", postgres.database())
    made.register({}, TRIALS, [])
    return made


def test_drivers_survive_their_server_and_each_other(
    postgres: Postgres, nursery: Nursery, calm: Calm, tmp_path: Path
) -> None:
    folder, url = calm.copy(tmp_path / "study"), postgres.database()
    drivers = [nursery.start(folder, url=url) for _ in range(3)]
    await_finished(folder)
    drivers[0].kill()
    postgres.restart()
    codes = [driver.wait() for driver in drivers]
    assert codes[0] in (-signal.SIGKILL, 0)
    assert codes[1:] == [0, 0], [driver.output for driver in drivers]
    assert "Traceback" not in "".join(driver.output for driver in drivers)
    assert max(Counter(finished(folder)).values()) == 1
    assert findings(folder, url) == calm.found
    assert not (folder / "study.sqlite").exists()


def test_a_server_that_comes_back_is_waited_for(postgres: Postgres, store: Store) -> None:
    with store.driving():
        store.claim([A])
        postgres.stop()
        threading.Timer(0.7, postgres.start).start()
        with pytest.warns(match=r"store postgresql.*/postgres: .*onnect.*\. Trying again\."):
            assert store.finish(A, OUTCOME, {})
        assert store.claim([B]) == B
        postgres.restart()
        assert store.record(B).state == "running"
        postgres.restart()
        assert store.claim([A, C]) == C
    assert store.counts() == {"train": {"done": 1, "pending": 2}}


def test_a_server_that_stays_away_is_named(
    postgres: Postgres, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = store._engine.url.render_as_string(hide_password=False)
    monkeypatch.setattr(room, "PATIENCE", 0.0)
    with store.driving():
        store.claim([A])
        postgres.stop()
        try:
            told = rf"store {re.escape(store.shown)}: .*Connection refused\. Check the URL, and that the server runs\."
            with pytest.raises(InputError, match=told):
                store.finish(A, OUTCOME, {})
            with pytest.raises(InputError, match=told):
                Store(tmp_path, "tiny", url)
            told = r"store .*@/postgres: .*No such file or directory\. Check the URL, and that the server runs\."
            with pytest.raises(InputError, match=told):
                Store(tmp_path, "tiny", postgres.by_socket(url))
        finally:
            postgres.start()
        assert store.record(A).result is None
        assert store.finish(A, OUTCOME, {})
    by_socket = Store(tmp_path, "tiny", postgres.by_socket(url))
    assert by_socket.counts() == {"train": {"done": 1, "pending": 2}}


def test_a_wrong_url_is_named_without_its_password(postgres: Postgres, tmp_path: Path) -> None:
    host = f"tester:s3cret@127.0.0.1:{postgres.port}"
    refused = {
        f"postgresql://{host}/nowhere": 'database "nowhere" does not exist. Check the URL',
        f"postgresql://{host}/nowhere?password=s3cret": 'database "nowhere" does not exist. Check the URL',
        f"postgresql://{host}/nowhere?nonsense=1": 'invalid connection option "nonsense". Check the URL',
        "postgresql://u:s3cret@h:port/name": "the store's URL cannot be read. Write it like postgresql+psycopg://",
        "u:s3cret@h/name": "the store's URL cannot be read. Write it like postgresql+psycopg://user@host/name, with",
        "mysql://u:s3cret@h/name": "a store is PostgreSQL, or SQLite without any URL; got mysql://. Write it like",
        "sqlite:///s3cret.sqlite": "a store is PostgreSQL, or SQLite without any URL; got sqlite://. Write it like",
        "postgresql+nothing://u:s3cret@h/name": "the store's URL needs a driver",
        "postgresql+psycopg2://u:s3cret@h/name": "after pip install 'promptgraft[postgres]'",
    }
    for url, told in refused.items():
        with pytest.raises(InputError) as raised:
            Store(tmp_path, "tiny", url)
        assert told in str(raised.value)
        assert "s3cret" not in str(raised.value)


def test_psycopg_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"needs a driver .*psycopg.*pip install 'promptgraft\[postgres\]'"):
        Store(tmp_path, "tiny", "postgresql://u:s3cret@127.0.0.1:1/name")


def test_a_driver_elsewhere_keeps_its_trials_until_they_are_asked_for(store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    other = Store(tmp_path / "elsewhere", "tiny", store._engine.url.render_as_string(hide_password=False))
    with store.driving():
        with other.driving():
            assert other.claim([A]) == A
            assert store.claim([A]) is None
            other._lock_path(str(other.owner)).unlink()  # as if it had been killed on another machine
            assert store.claim([A]) is None
            assert store.orphans() == []
            assert store.redo([A], "running") == 1
            assert store.claim([A]) == A
            assert not other.finish(A, OUTCOME, {})
        assert store.finish(A, OUTCOME, {})


def test_names_and_texts_of_any_length_and_kind(store: Store) -> None:
    odd = "\u00e9\u4e16\U0001f600 " + "x" * 5000
    trial = Trial("train", {"n": 1}, labels={"method": odd, "target": "\0", "seed": 2**62})
    store.register({"description": odd}, [trial], [])
    with store.driving():
        store.claim([trial.key])
        store.finish(trial.key, Outcome({"notes": [odd]}), {odd: "0" * 64})
    assert store.spec() == {"description": odd}
    record = store.record(trial.key)
    assert record.labels == trial.labels
    assert (record.result, record.artefacts) == ({"notes": [odd]}, {odd: "0" * 64})


def test_a_deadlock_passes(store: Store) -> None:
    # to finish a trial and to forget its result locks rows in two orders, and PostgreSQL ends one of the two
    other = Store(store.folder, "tiny", store._engine.url.render_as_string(hide_password=False))

    def finish() -> None:
        with store.driving():
            for _ in range(20):
                if store.claim([A]):
                    store.finish(A, OUTCOME, {})

    def redo() -> None:
        for _ in range(20):
            other.redo([A])

    threads = [threading.Thread(target=act) for act in (finish, redo)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store._engine.connect() as connection:
        results = connection.execute(sa.text("SELECT count(*) FROM promptgraft_results")).scalar()
    assert results == (store.record(A).state == "done")
