"""The state of a run that was stopped."""

import json
from pathlib import Path

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


@st.composite
def stated(draw: st.DrawFn, data: bytes) -> Files:
    """The same tensors, and another state beside the same key."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    state = json.loads(header["__metadata__"]["state"])
    new = draw(changed({name: value for name, value in state.items() if name != "key"}))
    new = {"key": state["key"], **new} if isinstance(new, dict) else new
    header["__metadata__"]["state"] = json.dumps(new)
    return {"run": safetensors_file(header, data[8 + size :])}


def test_checkpoints(search: Search, checkpoint: bytes) -> None:
    files = changed_safetensors(checkpoint).map(lambda content: {"run": content})
    search(lambda folder: load_checkpoint(folder / "run"), files)


def test_resumed_runs(search: Search, checkpoint: bytes, own_cache: Path) -> None:
    trainer = start()  # type: ignore[no-untyped-call]

    def resumed(folder: Path) -> None:
        again = Trainer(trainer.model, trainer.train, trainer.val, trainer.recipe, checkpoint=folder / "run")
        assert isinstance(again.finished, bool)
        assert again.kept_epoch <= again.epoch
        assert again.seconds >= 0

    files = changed_safetensors(checkpoint).map(lambda content: {"run": content}) | stated(checkpoint)
    search(resumed, files, examples=50)


@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "folder", "broken link"])
def test_nothing_is_waited_for(odd: str, tmp_path: Path) -> None:
    folder = lay({"run": odd}, tmp_path / "runs")  # type: ignore[dict-item]
    assert not attempt(lambda: load_checkpoint(folder / "run"))
