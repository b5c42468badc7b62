"""Prompts in other people's formats: every registered importer."""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save_file

from exchange.published import PUBLISHED, array
from hostile.mutations import Files, damaged, files_of, lay, spoiled
from hostile.searching import Search, attempt
from promptgraft.exchange import IMPORTERS
from promptgraft.exchange.reading import LIMIT

KINDS: dict[str, tuple[str, Callable[..., Any], tuple[Any, ...]]] = {
    **{name: (name, make, ()) for name, make in PUBLISHED.items()},
    "array-pt": ("array", array, ("pt",)),
    "array-safetensors": ("array", array, ("safetensors",)),
}


@pytest.fixture(scope="module", params=KINDS)
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Files of a sample, and what reads them."""
    importer, make, arguments = KINDS[request.param]
    root = tmp_path_factory.mktemp("published")
    path, options = make(root, *arguments)
    place = path.relative_to(root)

    def read(folder: Path) -> None:
        prompt = IMPORTERS[importer](folder / place, **options)
        assert prompt.save(folder / "again").is_dir()

    return files_of(root), read


@st.composite
def reheaded(draw: st.DrawFn, files: dict[str, bytes]) -> Files:
    """A `.npy` file with another header."""
    (name,) = files
    start = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 32), }"
    new = draw(
        st.sampled_from(
            [
                start.replace(
                    b"(4, 32)", draw(st.sampled_from([b"(" * 500, b"(4, -32)", b"(4, 10**9)", b"()", b"(0, 32)"]))
                ),
                start.replace(
                    b"<f4", draw(st.sampled_from([b"O", b"|V9", b">f8", b"<M8[ns]", b"<c16", b"f4,f4", b"<U9"]))
                ),
                start.replace(b"False", b"True"),
                b"[" * 9000,
                b"__import__('os').system('true')",
            ]
        )
    )
    size = draw(st.sampled_from([len(new), 0, 65535]))
    return {name: b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + new + files[name][128:]}


def test_importers(search: Search, published: Any) -> None:
    files, read = published
    cases = spoiled(files)
    if any(name.endswith(".npy") for name in files):
        cases = st.one_of(cases, reheaded(files))
    search(read, cases)


def saved(program: bytes, storage: bytes = b"") -> bytes:
    """A file of torch.save with a pickle program of one's own."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in {
            "data.pkl": program,
            "version": b"3\n",
            "byteorder": b"little",
            "data/0": storage,
        }.items():
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


def call(function: str, *arguments: Any) -> bytes:
    """The pickle program that calls a function."""
    module, name = function.rsplit(".", 1)
    pushed = b"".join(pickle.dumps(argument, 2)[2:-1] for argument in arguments)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + pushed + b"tR."


PROGRAMS = {
    "bytearray": call("builtins.bytearray", 1 << 36),
    "system": call("os.system", "true"),
    "eval": call("builtins.eval", "1"),
    "nested": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "set": call("builtins.set", list(range(10))),
    "counter": call("collections.Counter", "x" * 1000),
    "storage": call("torch.FloatStorage", 1 << 34),
    "tensor": call("torch.FloatTensor", 1 << 34),
    "memo": b"\x80\x02" + b"]q\x00" + b"h\x00h\x00h\x00" * 10_000 + b".",
    "long": b"\x80\x02\x8b" + (1 << 30).to_bytes(4, "little") + b".",
    "string": b"\x80\x02X" + (1 << 31).to_bytes(4, "little") + b"x.",
    "nothing": b"",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_pickles_of_ones_own(name: str, tmp_path: Path) -> None:
    path, options = array(tmp_path / "in", "pt")
    path.write_bytes(saved(PROGRAMS[name]))
    assert not attempt(lambda: IMPORTERS["array"](path, **options))


@st.composite
def programs(draw: st.DrawFn) -> Files:
    """What torch.save wrote, with another pickle program in it."""
    stream = io.BytesIO()
    torch.save({"prompt": torch.ones(4, 32), "n": [1, "x", None]}, stream)
    with zipfile.ZipFile(stream) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        program = archive.read(name)
    if draw(st.booleans()):
        return {"prompt.pt": saved(draw(damaged(program)), bytes(512))}
    starts = [place for _, _, place in pickletools.genops(program) if place is not None]
    at, to = draw(st.sampled_from(starts)), draw(st.sampled_from(starts))
    return {"prompt.pt": saved(program[:at] + program[to:], bytes(512))}


def test_pickle_programs(search: Search, tmp_path: Path) -> None:
    _, options = array(tmp_path / "in", "pt")
    search(lambda folder: IMPORTERS["array"](folder / "prompt.pt", **options), programs(), examples=40)


def test_many_tensors_are_too_large_together(tmp_path: Path) -> None:
    path, options = array(tmp_path / "in", "safetensors")
    size = LIMIT // 16
    save_file({f"t{i}": torch.zeros(size) for i in range(5)} | {"prompt": torch.ones(4, 32)}, path)
    assert not attempt(lambda: IMPORTERS["array"](path, **options))


@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "folder", "broken link"])
def test_nothing_is_waited_for(published: Any, odd: str, tmp_path: Path) -> None:
    files, read = published
    for name in files:
        folder = lay({**files, name: odd}, tmp_path / name.replace("/", "-"))  # type: ignore[dict-item]
        assert not attempt(lambda folder=folder: read(folder))  # type: ignore[misc]


def test_a_npz_is_no_array_of_ours(tmp_path: Path) -> None:
    path, options = array(tmp_path / "in", "npy")
    np.savez(path.with_suffix(".npz"), prompt=np.load(path))
    assert not attempt(lambda: IMPORTERS["array"](path.with_suffix(".npz"), **options))
