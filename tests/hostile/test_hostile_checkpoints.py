"""The state of a run that was stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from hostile.mutations import Files, changed, changed_safetensors, lay, safetensors_file
from hostile.searching import Search, attempt
from promptgraft.tuning.checkpoint import load_checkpoint
from promptgraft.tuning.fit import Trainer
from tuning.test_fit import start

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_vit_folder: Path) -> bytes:
    path = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPTGRAFT_CACHE", str(path.with_name("cache")))
        start(checkpoint=path).run(until=1)  # type: ignore[no-untyped-call]
    return path.read_bytes()


def with_state(data: bytes, change: Callable[[dict[str, Any]], Any]) -> Files:
    """The same tensors, and another state."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"]["state"] = json.dumps(change(json.loads(header["__metadata__"]["state"])))
    return {"run": safetensors_file(header, data[8 + size :])}


@st.composite
def stated(draw: st.DrawFn, data: bytes) -> Files:
    """The same tensors, and another state beside the same key."""

    def change(state: dict[str, Any]) -> Any:
        new = draw(changed({name: value for name, value in state.items() if name != "key"}))
        return {"key": state["key"], **new} if isinstance(new, dict) else new

    return with_state(data, change)


def test_checkpoints(search: Search, checkpoint: bytes) -> None:
    files = changed_safetensors(checkpoint).map(lambda content: {"run": content})
    search(lambda folder: load_checkpoint(folder / "run"), files)


@pytest.fixture
def resumed(own_cache: Path) -> Callable[[Path], None]:
    trainer = start()  # type: ignore[no-untyped-call]

    def resume(folder: Path) -> None:
        again = Trainer(trainer.model, trainer.train, trainer.val, trainer.recipe, checkpoint=folder / "run")
        assert isinstance(again.finished, bool)
        assert again.kept_epoch <= again.epoch
        assert again.seconds >= 0

    return resume


@pytest.mark.parametrize(("field", "value"), [("seconds", -0.5), ("epoch", -1)])
def test_epochs_before_the_start(
    checkpoint: bytes, resumed: Callable[[Path], None], tmp_path: Path, field: str, value: float
) -> None:
    def change(state: dict[str, Any]) -> dict[str, Any]:
        state["history"][0][field] = value
        return state

    assert attempt(lambda: resumed(lay({"run": checkpoint}, tmp_path / "whole")))
    assert not attempt(lambda: resumed(lay(with_state(checkpoint, change), tmp_path / "changed")))


def test_resumed_runs(search: Search, checkpoint: bytes, resumed: Callable[[Path], None]) -> None:
    files = changed_safetensors(checkpoint).map(lambda content: {"run": content}) | stated(checkpoint)
    search(resumed, files, examples=50)


@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "folder", "broken link"])
def test_nothing_is_waited_for(odd: str, tmp_path: Path) -> None:
    folder = lay({"run": odd}, tmp_path / "runs")  # type: ignore[dict-item]
    assert not attempt(lambda: load_checkpoint(folder / "run"))
