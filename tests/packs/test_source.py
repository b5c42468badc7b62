"""Source archives through pip itself, with a folder in place of the registry."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from promptgraft.errors import PackError
from promptgraft.packs import manifest
from promptgraft.packs.fetch import fetch, open_member

SETUP = "import pathlib, setuptools; pathlib.Path({mark!r}).touch(); setuptools.setup(name='tiny', version='1.0')"


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source archive that leaves a mark where its code is run, pinned as the pack "tiny"."""
    path = tmp_path / "registry/tiny-1.0.tar.gz"
    path.parent.mkdir()
    files = {"setup.py": SETUP.format(mark=str(tmp_path / "mark")), "PKG-INFO": "Name: tiny\n", "data.txt": "rows"}
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"tiny-1.0/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "manifest.toml").write_text(
        '[tiny]\nkind = "data"\nabout = "-"\nregistry = "pypi"\nlicence = "MIT"\nmembers = ["tiny-1.0/data.txt"]\n'
        f'archives = [{{ package = "tiny", version = "1.0", file = "{path.name}", bytes = 1, sha256 = "{digest}" }}]\n'
    )
    monkeypatch.setattr(manifest, "MANIFEST", tmp_path / "manifest.toml")
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PROMPTGRAFT_OFFLINE", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    return path


def test_a_source_archive_is_fetched_and_its_setup_is_not_run(archive: Path, tmp_path: Path) -> None:
    [path] = fetch("tiny")
    assert path.read_bytes() == archive.read_bytes()
    assert open_member("tiny", "tiny-1.0/data.txt").read() == b"rows"
    assert not (tmp_path / "mark").exists()
    assert [p.name for p in path.parent.iterdir() if not p.name.endswith(".lock")] == [path.name]


def test_another_source_archive_is_refused_before_it_is_opened(archive: Path) -> None:
    archive.write_bytes(b"not an archive at all")
    with pytest.raises(PackError, match=r"was not fetched \(ERROR: THESE PACKAGES DO NOT MATCH THE HASHES"):
        fetch("tiny")
