"""`check_lineage`: what was altered, which parents are missing, which weights are others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.numpy

from promptgraft.backbones import packed
from promptgraft.backbones.load import load_backbone
from promptgraft.doctor.lineage import check_lineage
from promptgraft.library import PromptLibrary, starter
from promptgraft.packs.manifest import find_pack
from promptgraft.prompt import SoftPrompt

MakePrompt = Callable[..., SoftPrompt]


@pytest.fixture
def library(make_prompt: MakePrompt, tmp_path: Path, own_cache: Path) -> PromptLibrary:
    """A source, its child, and a grandchild of both; their backbone is not here."""
    library = PromptLibrary(tmp_path / "library")
    source = make_prompt(seed=0, head=True)
    child = make_prompt(seed=1, head=True, parents=(source.id,), method="initial")
    library.add(source, "source")
    library.add(child, "text/child")
    library.add(make_prompt(seed=2, parents=(child.id, source.id), method="average"), "grandchild")
    return library


def test_a_whole_library(library: PromptLibrary) -> None:
    library.names()
    before = {path: path.read_bytes() for path in library.folder.rglob("*") if path.is_file()}
    found = check_lineage([library])
    assert (found.whole, found.wrong, found.absent) == (3, (), ())
    assert (found.weights, found.unseen) == ((), ("tiny",))
    assert (found.listed, found.signed, found.unchecked) == (0, (), ())
    assert {path: path.read_bytes() for path in library.folder.rglob("*") if path.is_file()} == before


def test_absent_parents_are_named(library: PromptLibrary, make_prompt: MakePrompt, tmp_path: Path) -> None:
    source = library["source"].id
    library.remove("source")
    found = check_lineage([library])
    assert (found.whole, found.wrong) == (2, ())
    assert found.absent == (("grandchild", source), ("text/child", source))
    elsewhere = PromptLibrary(tmp_path / "elsewhere")
    elsewhere.add(make_prompt(seed=0), "x")
    assert check_lineage([library, elsewhere]).absent == ()


def flip(path: Path, ending: str) -> None:
    """Change one bit of the stored tensor whose name ends so."""
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    start = next(entry["data_offsets"][0] for name, entry in header.items() if name.endswith(ending))
    data[8 + length + start] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("tensor", ["prompt", "head.weight", "head.bias"])
def test_a_changed_tensor_is_found(tensor: str, library: PromptLibrary) -> None:
    flip(library.folder / "source" / "prompt.safetensors", tensor)
    found = check_lineage([library])
    assert found.whole == 2
    [(name, why)] = found.wrong
    assert name == "source"
    assert f"tensor {tensor!r} is not the one" in why
    # what cannot be vouched for is no parent either
    assert [child for child, _ in found.absent] == ["grandchild", "text/child"]


def test_a_changed_card_is_found(library: PromptLibrary) -> None:
    path = library.folder / "text" / "child" / "prompt.json"
    text = path.read_text()
    for old, new in (
        ('"value": 0.75', '"value": 0.95'),
        ('"licence": "CC0-1.0"', '"licence": "MIT"'),
        (library["source"].id, "e" * 64),
        ('"fingerprint": "f', '"fingerprint": "a'),
        ('"weights_sha256": "0', '"weights_sha256": "1'),
    ):
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
        [(name, why)] = check_lineage([library]).wrong
        assert (name, "was altered: its card and tensor give the id" in why) == ("text/child", True), old
    path.write_text(text)
    assert check_lineage([library]).wrong == ()


def test_a_prompt_that_calls_itself_a_parent_is_none(library: PromptLibrary) -> None:
    """The id in a file counts once it has been computed anew."""
    source = library["source"].id
    library.remove("source")
    path = library.folder / "grandchild" / "prompt.json"
    path.write_text(path.read_text().replace(library["grandchild"].id, source))
    found = check_lineage([library])
    assert [name for name, _ in found.wrong] == ["grandchild"]
    assert found.absent == (("text/child", source),)


def test_a_damaged_note_is_found(library: PromptLibrary) -> None:
    (library.folder / "source" / "pulled.json").write_text("{}")
    [(name, why)] = check_lineage([library]).wrong
    assert name == "source"
    assert "does not say where the prompt was pulled from" in why


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_changed_weights_of_a_folder_are_found(
    dtype: str, make_prompt: MakePrompt, tiny_bert_folder: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_bert_folder, model)
    name = f"dir:{model}"
    training = make_prompt().card.training
    assert training is not None
    library = PromptLibrary(tmp_path / "library")
    library.add(
        make_prompt(
            dim=32,
            backbone=load_backbone(name, dtype=dtype).info,
            training=training.model_copy(update={"dtype": dtype}),
        )
    )
    found = check_lineage([library])
    assert (found.wrong, found.weights, found.unseen) == ((), (name,), ())

    path = model / "model.safetensors"
    whole = path.read_bytes()
    flip(path, "layer.1.output.dense.weight")
    [(what, why)] = check_lineage([library]).wrong
    assert what == name
    said = library["text/example"].card.backbone.weights_sha256[:12]
    assert f"cards say {said}. Get an unaltered copy" in why
    assert check_lineage([library]).weights == ()

    path.write_bytes(whole[:-100])
    [(what, why)] = check_lineage([library]).wrong
    assert (what, "cannot load backbone" in why) == (name, True)
    shutil.rmtree(model)
    assert check_lineage([library]).unseen == (name,)


def test_nothing_is_fetched(
    library: PromptLibrary, make_prompt: MakePrompt, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptgraft.packs.fetch.fetch", lambda name: pytest.fail(f"{name} is fetched"))
    monkeypatch.setattr("promptgraft.backbones.load.load_backbone", lambda *a, **k: pytest.fail("is loaded"))
    for number, name in enumerate(("packs/minilm-l6", "packs/../x", "hf/google-bert/bert-base-uncased", "packs")):
        info = make_prompt().card.backbone.model_copy(update={"name": name, "weights_sha256": "ab" * 32})
        library.add(make_prompt(seed=10 + number, backbone=info), f"p{number}")
    assert check_lineage([library]).unseen == (
        *("hf/google-bert/bert-base-uncased", "packs", "packs/../x", "packs/minilm-l6", "tiny"),
    )
    assert not own_cache.exists()


def test_the_command_says_it(
    promptgraft: Callable[..., tuple[int, str, str]], library: PromptLibrary, make_prompt: MakePrompt
) -> None:
    library.add(make_prompt(seed=7, parents=("e" * 64,)), "orphan")
    code, out, error = promptgraft("library", "verify", "--library", library.folder)
    assert (code, error) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines == [
        "prompt parent that is in no library here",
        f"orphan {'e' * 64}",
        "weights as the cards say: none, not here to check: tiny",
        "4 prompts are whole, 0 damaged",
    ]
    flip(library.folder / "orphan" / "prompt.safetensors", "prompt")
    code, out, error = promptgraft("library", "verify", "--library", library.folder)
    assert (code, error) == (1, "")
    assert "orphan" in out
    assert out.endswith("3 prompts are whole, 1 damaged\n")


@pytest.mark.real
def test_the_starter_library_and_a_changed_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_backbone("packs/minilm-l6")
    found = check_lineage([starter()])
    assert found.wrong == ()
    assert found.absent == ()
    assert "packs/minilm-l6" in found.weights

    converted = packed._folder(find_pack("minilm-l6"))
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path))
    copy = tmp_path / "models" / converted.name
    shutil.copytree(converted, copy)
    tensors = safetensors.numpy.load_file(copy / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layer.5.output.dense.bias"))
    tensors[name] = tensors[name] + 1e-3
    safetensors.numpy.save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    found = check_lineage([starter()])
    assert [what for what, _ in found.wrong] == ["packs/minilm-l6"]
    assert found.whole == len(starter())
