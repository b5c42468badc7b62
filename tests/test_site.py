"""The site that MkDocs makes of docs/: the map of its pages, their links, and that it builds."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES]
FROM_OUTSIDE = "repository/"  # where tools/site_hooks.py puts what pages link to outside docs/


def text_of(document: str) -> str:
    """The page without its code, in which a bracket is no link and `#` no heading."""
    text = re.sub(r"^( *)(```|~~~).*?^\1\2$", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def anchors_of(document: str) -> list[str]:
    """Names of headings as code hosts and tools/site_hooks.py make them."""
    headings = re.findall(r"^#+ +(.+?) *$", text_of(document), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain]


def named(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from named(value) if isinstance(value, list) else [value]


def test_the_map_names_every_page_once() -> None:
    pages = list(named(YAML().load(ROOT / "mkdocs.yml")["nav"]))
    assert sorted(f"docs/{page}" for page in pages if not page.startswith(FROM_OUTSIDE)) == PAGES
    assert all((ROOT / page.removeprefix(FROM_OUTSIDE)).exists() for page in pages if page.startswith(FROM_OUTSIDE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings(document: str) -> None:
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)", text_of(document)):
        path = (ROOT / document).parent / target if target else ROOT / document
        assert path.exists(), target
        assert path.resolve().is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors_of(path.resolve().relative_to(ROOT).as_posix()), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_two_headings_of_a_page_have_one_name(document: str) -> None:
    if document != "CHANGELOG.md":  # "Added" stands under every version
        assert len(anchors_of(document)) == len(set(anchors_of(document)))


def test_the_api_page_has_every_public_name() -> None:
    from promptgraft import __all__ as face
    from promptgraft import transferability

    directives = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert len(directives) == len(set(directives))
    for path in directives:
        module, _, name = path.rpartition(".")
        assert getattr(importlib.import_module(module), name).__doc__, path
    shown = {path.rpartition(".")[2] for path in directives}
    assert {*face, *transferability.__all__} - shown == {"__version__", "ESTIMATORS"}


def test_the_page_on_estimators_sorts_all_by_what_they_look_at() -> None:
    from promptgraft.transferability import ESTIMATORS

    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+`) \|", (ROOT / "docs/which-estimator.md").read_text(), re.MULTILINE)
    listed = [(name, needs) for needs, names in rows for name in re.findall(r"`([^`]+)`", names)]
    kinds = ["card", "prompt", "patches", "features", "target prompt", "activations"]
    order = dict(zip((needs for needs, _ in rows), kinds, strict=True))
    assert sorted((name, order[needs]) for name, needs in listed) == sorted(
        (name, ESTIMATORS[name].needs) for name in ESTIMATORS
    )


@pytest.mark.skipif(
    not all(map(find_spec, ("mkdocs", "material", "mkdocstrings"))), reason="the extra `docs` is not installed"
)
def test_the_site_builds_and_asks_nothing_of_others(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = {path.relative_to(tmp_path / "site").as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert {page.removeprefix("docs/").replace(".md", ".html") for page in PAGES} <= set(built)
    for page, html in built.items():
        assert not re.findall(r"""<(?:script|img|iframe)[^>]+src=["']?(?:https?:)?//""", html), page
        assert not re.findall(r"""<link[^>]+rel=["']?stylesheet["']?[^>]+href=["']?(?:https?:)?//""", html), page
        assert not re.search(r"<p>(?:- |\d\. |\|)", html), f"{page}: a list or a table that is none"
