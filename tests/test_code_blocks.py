"""What a reader would paste from README and docs/: blocks of Python run, commands parse and name what there is.

README's Python runs in test_documents.py, that of docs/serving.md in serving/test_serving_export.py.
"""

import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

import promptgraft as pg
from promptgraft.cli import app
from promptgraft.library import starter
from promptgraft.packs.manifest import load_manifest
from promptgraft.study.ready import ready_studies
from promptgraft.tasks.packed import BUILTIN
from promptgraft.transfer.converter import CONVERTERS
from promptgraft.transferability import ESTIMATORS
from promptgraft.tuning.method import METHODS

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))]
ADD_UP = {"average", "greedy", "attempt", "hgprompt"}
"""Methods of several prompts that need one length."""
BREAKS = {"|", "||", "&&", ";", ">", "<", "&"}


def blocks_of(document: str) -> list[str]:
    text = (ROOT / document).read_text()
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def lines_of(document: str) -> list[str]:
    """Lines of code that is no fenced Python or YAML, continued ones joined."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / document).read_text())
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    bare = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [*re.findall(r"^    (?!- )(\S.*)$", bare, re.MULTILINE), *"".join(fenced).splitlines()]


def commands_of(document: str) -> Iterator[list[str]]:
    """Words after `promptgraft`, of every command on such a line."""
    for line in lines_of(document):
        if "promptgraft " not in line.partition("#")[0]:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in BREAKS:
                words.append(word)
                continue
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # settings before a command
                words = words[1:]
            if words and words[0] == "promptgraft":
                yield words[1:]
            words = []


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words begin with, and its arguments."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if not words:
            return command, words
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


COMMANDS = [
    pytest.param(words, id=f"{Path(document).stem}: {shlex.join(words)[:60]}")
    for document in DOCUMENTS
    for words in commands_of(document)
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_parses_and_names_what_there_is(words: list[str]) -> None:
    command, arguments = find(words)
    given = command.make_context(command.name, list(arguments)).params if arguments else {}
    known = {
        "method": {*METHODS, *CONVERTERS},
        "estimators": set(ESTIMATORS),
        "data": {f"builtin/{name}" for name in BUILTIN},
        "names": set(load_manifest()) if words[0] == "packs" else set(),
    }
    for option, names in known.items():
        values = given.get(option) or []
        for value in values.split(",") if isinstance(values, str) else values:
            assert value in names or not names or (option == "data" and not value.startswith("builtin/")), value
    if words[:2] == ["study", "init"]:
        assert given["size"] in ready_studies()[given["name"]]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_prompts_in_commands_are_in_the_starter_or_added_on_the_page(document: str) -> None:
    commands = list(commands_of(document))
    own = {words[words.index("--name") + 1] for words in commands if "--name" in words} | set(starter().names())
    for words in commands:
        if words[0] in ("transfer", "convert") or words[:2] in (["library", "show"], ["library", "export"]):
            named = [word for word in words if re.fullmatch(r"(text|vision)/[\w-]+", word)]
            assert set(named) <= own, words
            if given := [starter()[name].card.prompt for name in named if name in starter()]:
                adds_up = "--method" in words and words[words.index("--method") + 1] in ADD_UP
                assert not adds_up or len({prompt.length for prompt in given}) == 1, words


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_prose_name_commands_and_options(document: str) -> None:
    prose = re.sub(r"^```.*?^```|^    .*?$", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`promptgraft ([^`]+)`", prose):
        command, arguments = find(span.replace("[", "").replace("]", "").split())
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= options, span


def run(block: str, **given: Any) -> dict[str, Any]:
    """Names that the block leaves behind. It sees those that are given."""
    names = {"__name__": "page", **given}
    exec(block, names)
    return names


def smaller(block: str) -> str:
    """The same on few examples, so that it runs in seconds."""
    for size, value in {"n_train": 20, "n_val": 10, "n_test": 10, "epochs": 1}.items():
        block = re.sub(rf"\b{size}=\d+", f"{size}={value}", block)
    return block.replace("image_size=70", "image_size=28")


def test_every_block_is_run_by_a_test() -> None:
    tested = {"README.md": 1, "docs/serving.md": 1, "docs/tour.md": 2, "docs/exchange.md": 1, "docs/adapt.md": 1}
    tested |= {"docs/analysis.md": 1, "docs/tasks.md": 1, "docs/zero-shot.md": 1}
    assert {document: len(blocks_of(document)) for document in DOCUMENTS if blocks_of(document)} == tested


@pytest.mark.real
def test_a_prompt_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = blocks_of("docs/analysis.md")
    run(smaller(block))


@pytest.mark.real
def test_facts_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    [block] = blocks_of("docs/zero-shot.md")
    run(block.replace('load_facts("facts/countries")', 'load_facts("facts/countries", limit=2)'))
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == ["manual", "relative", "relative"]


def test_means_of_vtab(
    tiny_vit_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for split, count in (("train800", 8), ("val200", 4), ("test", 6)):
        for number in range(count):
            file = Path("vtab-1k/dsprites_loc/images", split, f"{number}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (28, 28, 3), dtype=np.uint8)).save(file)
        lines = [f"images/{split}/{number}.png {number % 2}\n" for number in range(count)]
        Path(f"vtab-1k/dsprites_loc/{split}.txt").write_text("".join(lines))
    [block] = blocks_of("docs/tasks.md")
    names = run(block.replace("packs/dinov2-small", f"dir:{tiny_vit_folder}"))
    assert names["means"].over_tasks == pytest.approx(names["accuracies"]["dsprites_loc"])


@pytest.fixture
def birds(
    tiny_vit_folder: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> pg.Adapted:
    """A model in `birds` and two images in `new`, below the working directory."""
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    backbone = pg.load_backbone(f"dir:{tiny_vit_folder}")
    adapted = pg.tune(backbone, pg.load_task(image_folder), epochs=1)
    adapted.save("birds")
    Path("new").mkdir()
    for name, shade in (("a.jpg", 60), ("b.jpg", 200)):
        Image.new("RGB", (40, 40), (shade, shade, shade)).save(Path("new", name))
    return adapted


def test_an_adapted_model_predicts(birds: pg.Adapted, capsys: pytest.CaptureFixture[str]) -> None:
    [block] = blocks_of("docs/adapt.md")
    run(block)
    assert set(re.findall(r"'(\w+)'", capsys.readouterr().out)) <= {"dark", "light"}


def test_the_scikit_learn_classifier(
    tiny_vit_folder: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    files = sorted(image_folder.rglob("*.png"))
    labels = [file.parent.name for file in files]
    [block] = blocks_of("docs/exchange.md")
    block = block.replace("packs/dinov2-small", f"dir:{tiny_vit_folder}").replace("image_size=70", "image_size=28")
    names = run(block, X=files, y=labels, new=files[:2], X_test=files, y_test=labels)
    assert set(names["model"].predict(files)) <= {"dark", "light"}


@pytest.mark.real
def test_the_tour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    """The tour from its first line to its last, on few examples and small images."""
    from promptgraft.cli import main

    monkeypatch.setenv("PROMPTGRAFT_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main replaces it
    monkeypatch.chdir(tmp_path)
    text = re.sub(r"\\\n\s*", " ", (ROOT / "docs/tour.md").read_text())
    for block, line in re.findall(r"^```python\n(.*?)^```|^    promptgraft ([^\n]*)", text, re.DOTALL | re.MULTILINE):
        if block:
            run(smaller(block))
            continue
        line = line.replace("--image-size 70", "--image-size 28")
        line = re.sub(r"--epochs \d+", "--epochs 1", line).partition(" #")[0]
        assert main(shlex.split(line)) == 0, f"{line}\n{capsys.readouterr().err}"
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"digits", "new", "digits.png", "adapted", "from-text", "library"}
    assert (tmp_path / "library/vision/my-digits/prompt.json").is_file()
