"""Names, classes and notes that mean something to a page, a spreadsheet, a terminal: shown, they do nothing."""

import copy
import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hostile.mutations import TEXTS, lay
from promptgraft.library import PromptLibrary
from promptgraft.prompt import SoftPrompt
from promptgraft.readme import prompt_readme
from promptgraft.report.page import render_page
from promptgraft.report.study_page import render_study
from promptgraft.report.study_tables import latex, markdown
from promptgraft.study.export import export_trials
from report.reading import Reader
from report.sample_result import sample_result
from report.study_sample import sample_study

HTML = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"' onmouseover='alert(2)' {{7*7}} <!-- ]]>"
STEERING = "\x1b[31m\x9b2J\x07\u202egnp\u2066\x7f\r\n\u2028"
STRUCTURE = {"modality", "status", "kind", "state", "method", "estimator", "key", "thumbnail", "created", "started"}
"""What a page chooses its parts by; the rest is shown."""


def named(value: Any, name: str, key: str = "") -> Any:
    """The same value with `name` behind every text that is shown, and behind every key of free mappings."""
    if isinstance(value, dict):
        return {inner: named(item, name, inner) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [named(item, name, key) for item in value]
    return f"{value}{name}" if isinstance(value, str) and key not in STRUCTURE else value


PAGES: dict[str, tuple[Callable[[Any], str], Callable[[], Any]]] = {
    "adapt": (render_page, sample_result),
    "study": (render_study, sample_study),
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_tag_and_no_attribute_more(page: str) -> None:
    render, sample = PAGES[page]
    plain, hostile = (Reader(render(named(sample(), name))) for name in (" x", HTML))  # type: ignore[no-untyped-call]
    assert Counter(hostile.tags) == Counter(plain.tags)
    assert Counter(name for _, name, _ in hostile.attributes) == Counter(name for _, name, _ in plain.attributes)
    links = [value for _, name, value in hostile.attributes if name in ("href", "src", "action", "srcdoc")]
    assert not [value for value in links if not value.startswith(("#", "data:image/"))]


def test_markdown_and_latex_stay_tables() -> None:
    for write in (markdown, latex):
        plain, hostile = (write(named(sample_study(), name)) for name in (" x", HTML + STEERING))
        assert len(hostile.split("\n")) == len(plain.split("\n"))
        assert hostile.replace("\n", "").isprintable()
        comment, _, body = hostile.partition("\n")
        assert "<" not in body
        assert comment.startswith("%") or "--" not in comment.removeprefix("<!--").removesuffix("-->")


@pytest.mark.parametrize("text", [HTML, STEERING, *TEXTS])
def test_a_card_formats_nothing(text: str, make_prompt: Callable[..., SoftPrompt]) -> None:
    card = make_prompt().card
    plain = prompt_readme(card, "0")
    if "\ud800" in text or "\udc80" in text:
        pytest.skip("no card holds half a character")
    task = card.task.model_copy(update={"name": text, "classes": (text, "b")})
    backbone = card.backbone.model_copy(update={"name": text, "revision": text})
    written = prompt_readme(
        card.model_copy(update={"name": text, "task": task, "backbone": backbone, "licence": text, "command": text}),
        "0",
    )
    assert len(written.split("\n")) == len(plain.split("\n"))
    assert written.replace("\n", "").isprintable()
    shown, code = written.split("```python")[0], written.split("```python")[1]
    assert "<" not in shown
    assert code.count("```") == 1


def test_no_cell_of_a_spreadsheet_is_a_formula(tmp_path: Path) -> None:
    texts = [
        text.replace("\ud800", "").replace("\udc80", "") for text in (*TEXTS, HTML, STEERING, "\n=1", "＝1", "＠x")
    ]
    rows = [{"target": text, "notes": [text], "error": text, "setting": {text: text}, "n": -1.5} for text in texts]
    path = export_trials(rows, tmp_path / "trials.csv")
    found = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert {len(row) for row in found} == {len(found[0])}
    assert len(found) == len(rows) + 1
    starts = {
        cell[0] for row in found[1:] for cell in row if cell and not cell.removeprefix("-").replace(".", "").isdigit()
    }
    assert not starts & set("=+-@\t\r\n＝＋－＠")
    assert [row[0].removeprefix("'") for row in found[1:]] == [row["target"] for row in rows]


@pytest.fixture
def library(make_prompt: Callable[..., SoftPrompt], tmp_path: Path) -> PromptLibrary:
    """A prompt whose card steers whatever shows it."""
    card = make_prompt().card
    bad = f"x{STEERING}"
    prompt = make_prompt(
        name=bad,
        task=card.task.model_copy(update={"name": bad, "classes": (bad, "b"), "metric": bad}),
        backbone=card.backbone.model_copy(update={"name": bad, "family": bad, "revision": bad}),
        method=bad,
        licence=bad,
        parents=(bad,),
        command=bad,
    )
    place = PromptLibrary(tmp_path / "prompts")
    place.add(prompt, "text/bad")
    return place


def test_nothing_that_a_command_prints_steers_a_terminal(
    promptgraft: Callable[..., tuple[int, str, str]], library: PromptLibrary, tmp_path: Path
) -> None:
    prompt, table = library.folder / "text/bad", tmp_path / "data.jsonl"
    rows = [{"text": f"{i}{STEERING}", "label": f"{i % 2}{STEERING}"} for i in range(20)]
    table.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    broken = lay({"prompt.json": b'{"\\u001b[31m": 1}', "prompt.safetensors": b""}, tmp_path / "broken\x1b[31m")
    commands: list[list[Any]] = [
        ["library", "ls", "--library", library.folder],
        ["library", "show", prompt],
        ["library", "verify", "--library", library.folder],
        ["library", "show", broken],
        ["doctor", "prompt", prompt],
        ["doctor", "data", table],
        ["doctor", "run", broken],
        ["packs", "path", STEERING],
        ["study", "status", broken],
    ]
    for command in [
        *commands,
        *([*command, "--json"] for command in copy.copy(commands) if command[1] in ("ls", "prompt")),
    ]:
        code, out, error = promptgraft(*command)
        printed = out + error
        assert printed.replace("\n", "").isprintable(), (command, code, ascii(printed))
        assert "promptgraft itself failed" not in error, (command, error)
    for command in (["library", "show", prompt, "--json"], ["doctor", "data", table, "--json"]):
        code, out, _ = promptgraft(*command)
        assert code in (0, 1)
        assert out.replace("\n", "").isprintable()
        assert json.loads(out)
    shown = json.loads(promptgraft("library", "show", prompt, "--json")[1])
    assert shown["task"]["name"] == f"x{STEERING}"  # the escapes of JSON stand for what was there
