"""Prompt folders: spoilt as they are, and spoilt by one who makes all hashes right again."""

import hashlib
import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from hostile.mutations import DTYPES, Files, changed, files_of, lay, safetensors_file, spoiled
from hostile.searching import Search
from promptgraft.doctor.prompt import check_prompt
from promptgraft.errors import PromptFileError
from promptgraft.files import canonical_json
from promptgraft.prompt import SoftPrompt
from promptgraft.readme import prompt_readme


@pytest.fixture(scope="module")
def files(make_prompt: Callable[..., SoftPrompt], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files_of(make_prompt(head=True).save(tmp_path_factory.mktemp("prompts") / "prompt"))


def read(folder: Path) -> str:
    prompt = SoftPrompt.load(folder)
    again = SoftPrompt.load(prompt.save(folder.with_name("again")))
    assert again == prompt
    assert prompt_readme(prompt.card, prompt.id)
    check_prompt(prompt)
    return prompt.id


def test_prompt_folders(search: Search, files: dict[str, bytes]) -> None:
    search(read, spoiled(files, ("prompt.json", "prompt.safetensors")))


def parts(files: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Card, header and numbers."""
    tensors = files["prompt.safetensors"]
    size = int.from_bytes(tensors[:8], "little")
    return json.loads(files["prompt.json"]), json.loads(tensors[8 : 8 + size]), tensors[8 + size :]


def sealed(card: Any, header: dict[str, Any], body: bytes) -> Files:
    """A prompt folder whose hashes and id are right, so that a reader goes on to look at the rest."""
    tensors: dict[str, bytes] = {}
    file = safetensors_file(header, body)
    with suppress(SafetensorError):
        tensors = {name: bytes(view["data"]) for name, view in deserialize(file)}  # type: ignore[no-untyped-call]
    with suppress(ValueError, TypeError, AttributeError):  # of a card that is none, or that no JSON holds
        said = {key: value for key, value in card.items() if key not in ("id", "tensors")}
        identity = hashlib.sha256(tensors.get("prompt", b"") + canonical_json(said).encode()).hexdigest()
        table = {
            name: {"shape": header[name]["shape"], "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in tensors.items()
        }
        card = {**card, "id": identity, "tensors": table}
        header["__metadata__"] = {"promptgraft": canonical_json({"format_version": 1, "id": identity})}
    document = json.dumps(card).encode("utf-8", "surrogatepass")
    return {"prompt.json": document, "prompt.safetensors": safetensors_file(header, body)}


@st.composite
def forged(draw: st.DrawFn, files: dict[str, bytes]) -> Files:
    card, header, body = parts(files)
    for _ in range(draw(st.integers(0, 2))):
        card = draw(changed(card))
    name = draw(st.sampled_from(["prompt", "head.weight", "head.bias"]))
    match draw(st.sampled_from(["card", "card", "numbers", "dtype", "shape", "name"])):
        case "numbers":
            start = header[name]["data_offsets"][0]
            odd = struct.pack("<f", draw(st.floats(width=32)))
            body = body[:start] + odd + body[start + 4 :]
        case "dtype":
            header[name]["dtype"] = draw(st.sampled_from(DTYPES))
        case "shape":
            many = draw(st.sampled_from([[1] * 100, [0, 1 << 62], [0] * 70, [1 << 62, 0, 4], []]))
            start = header[name]["data_offsets"][0]
            header[name] |= {"shape": many + header[name]["shape"] if 1 in many else many}
        case "name":
            header[draw(st.sampled_from(["state.x", "state.", "head.x", "\0", "prompt "]))] = header.pop(name)
    return sealed(card, header, body)


def test_forged_prompt_folders(search: Search, files: dict[str, bytes]) -> None:
    search(read, forged(files), examples=50)


def test_a_seal_is_right(files: dict[str, bytes], tmp_path: Path) -> None:
    assert SoftPrompt.load(lay(sealed(*parts(files)), tmp_path / "prompt")).card.name == "text/example"


@pytest.mark.parametrize("shape", [[1] * 100, [0, 1 << 62], [1 << 62, 0, 4]])
def test_shapes_that_numpy_has_not(shape: list[int], files: dict[str, bytes], tmp_path: Path) -> None:
    card, header, body = parts(files)
    empty = 0 in shape
    header["state.x"] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + (0 if empty else 4)]}
    folder = lay(sealed(card, header, body + (b"" if empty else b"\0\0\0\0")), tmp_path / "prompt")
    with pytest.raises(PromptFileError, match="shape"):
        SoftPrompt.load(folder)


def test_a_key_twice_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    text = files["prompt.json"].decode().replace('"name": "text/example"', '"name": "x", "name": "text/example"')
    assert text.encode() != files["prompt.json"]
    with pytest.raises(PromptFileError, match="the key 'name' stands there twice"):
        SoftPrompt.load(lay({**files, "prompt.json": text.encode()}, tmp_path / "prompt"))
