"""`study.yaml`: read with every mistake named, added to, opened."""

from pathlib import Path

import pytest
from hypothesis import strategies as st

from hostile.mutations import Files, damaged, lay, texts, values
from hostile.searching import Search, attempt
from promptgraft.errors import InputError
from promptgraft.study.document import add_to_document, read_spec, write_spec
from promptgraft.study.folder import open_existing

CORPUS = Path(__file__).parent / "corpus" / "studies"
STUDY = """\
study: small
description: "what takes: where"
backbones:
  - packs/vit-small
  - {name: packs/minilm-l6, label: words, max_length: 64}
targets: [builtin/digits, {task: builtin/textile, n_train: 100}]
sources:
  library: starter
  prompts: [text/newsgroups, vision/digits]  # two of them
methods:
  - linear
  - {method: vpt, layers: shallow}
seeds: [0, 1]
recipe: {name: short, epochs: 3}
"""


def read(folder: Path) -> None:
    path = folder / "study.yaml"
    spec = read_spec(path)
    path.with_name("again.yaml").write_text(write_spec(spec))
    assert read_spec(path.with_name("again.yaml")) == spec
    assert open_existing(folder) is None


@st.composite
def documents(draw: st.DrawFn) -> Files:
    kind = draw(st.sampled_from(["bytes", "bytes", "word", "word", "line", "yaml"]))
    text = STUDY
    if kind == "bytes":
        return {"study.yaml": draw(damaged(STUDY.encode()))}
    lines = text.split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    signs = st.sampled_from(
        ["&a ", "*a", "!!python/object:os.system ", "!x ", "<<: *a", "? ", "- ", "|", ">", "%YAML 2"]
    )
    if kind == "word":
        start = lines[at].partition(":")[0]
        lines[at] = f"{start}: {draw(texts | signs | values.map(str))}"
    elif kind == "line":
        lines[at:at] = [draw(texts)] * draw(st.integers(1, 3))
    else:
        lines[at] = lines[at] + draw(signs) + draw(texts)
    return {"study.yaml": "\n".join(lines).encode("utf-8", "surrogatepass")}


def test_studies(search: Search) -> None:
    search(read, documents(), examples=50)


def test_additions(search: Search) -> None:
    """What is added stands there; a refusal leaves the file as it was."""

    def added(folder: Path) -> None:
        path = folder / "study.yaml"
        before = path.read_bytes()
        words = {"targets": ["builtin/mnist-5k"], "seeds": ["7"], "methods": ["spt:deep"]}
        try:
            spec = add_to_document(path, words)
        except InputError:
            assert path.read_bytes() == before
            raise
        assert spec == read_spec(path)
        assert 7 in spec.seeds

    search(added, documents())


def test_the_study_itself_is_one(tmp_path: Path) -> None:
    read(lay({"study.yaml": STUDY.encode()}, tmp_path / "s"))


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_corpus_is_refused(file: Path, tmp_path: Path) -> None:
    folder = lay({"study.yaml": file.read_bytes()}, tmp_path / "s")
    assert not attempt(lambda: read_spec(folder / "study.yaml"))
    attempt(lambda: open_existing(folder))


@pytest.mark.parametrize("content", [b"a: " * 300_000, b"[" * 500_000, b"- " * 400_000, b"x: 'y" + b"'" * 900_000])
def test_long_ones(content: bytes, tmp_path: Path) -> None:
    folder = lay({"study.yaml": content}, tmp_path / "s")
    assert not attempt(lambda: read_spec(folder / "study.yaml"))
    attempt(lambda: open_existing(folder))


@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "broken link", "folder"])
def test_nothing_is_waited_for(odd: str, tmp_path: Path) -> None:
    folder = lay({"study.yaml": odd}, tmp_path / "s")  # type: ignore[dict-item]
    assert not attempt(lambda: read_spec(folder / "study.yaml"))
    assert not attempt(lambda: open_existing(folder))
