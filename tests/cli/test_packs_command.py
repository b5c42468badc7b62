import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from promptgraft.cli.packs import app
from promptgraft.errors import InputError, PackError
from promptgraft.packs.manifest import load_manifest
from promptgraft.tasks.packed import BUILTIN


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path))
    monkeypatch.setenv("PROMPTGRAFT_OFFLINE", "1")
    (tmp_path / "packs").mkdir()
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_ls_prints_an_aligned_plain_table(cache: Path) -> None:
    lines = run("ls").splitlines()
    assert all(len(line) <= 100 and "…" not in line and "\x1b" not in line for line in lines)
    end = lines.index("")
    assert [line.split()[0] for line in lines[1:end]] == list(load_manifest())
    assert re.findall(r"builtin/([\w-]+)", " ".join(lines[end:])) == list(BUILTIN)


def test_ls_json_says_what_is_cached(cache: Path) -> None:
    (cache / "packs" / load_manifest()["sentences"].archives[0].file).touch()
    rows = {row["name"]: row for row in json.loads(run("ls", "--json"))}
    assert rows["sentences"]["cached"]
    assert not rows["mpnet-base"]["cached"]
    assert rows["mpnet-base"]["bytes"] == sum(archive["bytes"] for archive in rows["mpnet-base"]["archives"])


def test_fetch_wants_names_or_all(cache: Path) -> None:
    with pytest.raises(InputError, match="--all"):
        run("fetch")
    with pytest.raises(InputError, match="--all"):
        run("fetch", "--all", "sentences")
    with pytest.raises(InputError, match="Did you mean 'sentences'"):
        run("fetch", "sentencs")


def test_verify_fails_where_a_named_pack_is_missing_or_any_is_altered(cache: Path) -> None:
    assert run("verify") == ""
    with pytest.raises(PackError, match="promptgraft packs fetch sentences"):
        run("verify", "sentences")
    (cache / "packs" / load_manifest()["sentences"].archives[0].file).write_bytes(b"cut")
    with pytest.raises(PackError, match="sentences"):
        run("verify")


def test_path_never_fetches(cache: Path) -> None:
    with pytest.raises(PackError, match="promptgraft packs fetch sentences"):
        run("path", "sentences")
