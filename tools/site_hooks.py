"""Hooks of MkDocs: files of the repository that pages link to come into the site.

A link out of docs/ is written so that it works in the repository: `../src/promptgraft/prompt.py`. In the site the file
lies under `repository/`; Markdown becomes a page, a source becomes text that a browser shows.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
SHOWN = {".md", ".html", ".svg", ".png"}


def on_config(config: Any) -> None:
    """Name headings as code hosts do, so that a link to one works in both places."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")


def on_files(files: Any, config: Any) -> None:
    """Add the files that pages link to, and those that these link to."""
    waiting = [file.src_uri for file in files.documentation_pages()]
    while waiting:
        page = _in_repository(waiting.pop())
        for _, link, _ in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
            path = _target(page, link)
            if (ROOT / path).is_file() and files.get_file_from_path(_in_site(path)) is None:
                files.append(File.generated(config, _in_site(path), abs_src_path=str(ROOT / path)))
                waiting += [_in_site(path)] * path.endswith(".md")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at the site's own places; one to a folder keeps its text only."""
    here = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        path = _target(_in_repository(here), link[2])
        if (ROOT / path).is_dir():
            return link[1]
        return f"[{link[1]}]({posixpath.relpath(_in_site(path), posixpath.dirname(here))}{link[3] or ''})"

    return LINK.sub(moved, markdown)


def _target(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _in_site(path: str) -> str:
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" + ("" if Path(path).suffix in SHOWN else ".txt")


def _in_repository(uri: str) -> str:
    return uri.removeprefix("repository/") if uri.startswith("repository/") else f"docs/{uri}"
