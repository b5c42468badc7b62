import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import promptgraft as pg
from promptgraft.report.study_tables import markdown
from promptgraft.study.folder import open_started
from promptgraft.study.summary import summarize
from promptgraft.tuning.method import METHODS
from promptgraft.tuning.tune import transfer

ROOT = Path(__file__).parents[1]


def python_of(document: str) -> str:
    [block] = re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)
    return str(block)


def test_the_method_of_the_walk_through_works(
    tiny_vit_folder: Path, image_folder: Path, make_prompt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("promptgraft.transfer.scaled")
    exec(python_of("CONTRIBUTING.md"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(METHODS._entries, "scaled", "promptgraft.transfer.scaled:scaled")
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path))
    source = make_prompt(dim=32, length=4)
    backbone = pg.load_backbone(f"dir:{tiny_vit_folder}")
    adapted = transfer(source, backbone, pg.load_task(image_folder), method="scaled", recipe="paper", epochs=3)
    assert adapted.info.method == "scaled"
    assert adapted.prompt is not None
    factors = adapted.prompt.tensor / source.tensor
    assert factors.std(-1).max() < 1e-4 < (factors - 1).abs().max()  # one factor for each row, and it was trained


@pytest.mark.real
def test_the_readmes_python_works(capsys: pytest.CaptureFixture[str]) -> None:
    exec(python_of("README.md"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert "gap" in printed
    assert "n=100" in printed


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_link_and_name_what_is_there(document: str) -> None:
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / document).parent.joinpath(target).exists(), target
    for path in re.findall(r"`((?:tests|docs)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`((?:backbones|tasks|tuning|transfer|transferability|packs|cli)/\w+\.\w+)`", text):
        assert (ROOT / "src/promptgraft" / path).exists() or path == "transfer/scaled.py", path


STUDIES = sorted(folder.parent.name for folder in ROOT.glob("studies/*/tables.md"))


@pytest.mark.parametrize("name", STUDIES)
def test_a_committed_study_prints_the_tables_beside_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the tables name the folder as it was given
    folder = Path("studies", name)
    assert (folder / "tables.md").read_text() == markdown(summarize(open_started(folder)))


def test_the_readmes_shares_of_pairs_are_the_studys() -> None:
    rows = [line.split(" | ") for line in (ROOT / "studies/cross-modality/tables.md").read_text().splitlines()]
    share = {row[1]: row[4] for row in rows if row[0] == "| projection" and len(row) == 8}
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"{share['vpt shallow']} % of the pairs beat VPT and {share['linear']} % the linear probe" in text


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if "<!-- studies/" in (ROOT / d).read_text()])
def test_tables_of_studies_are_the_studies_own(document: str) -> None:
    found = re.findall(r"<!-- studies/([\w-]+) -->\n((?:\|.*\n)+)", (ROOT / document).read_text())
    assert found
    for name, table in found:
        assert table in (ROOT / "studies" / name / "tables.md").read_text(), table.splitlines()[0]
