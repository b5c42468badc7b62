"""Source archives of PyPI, downloaded by pip without running anything of them.

pip downloads a source archive only together with its metadata, and asks setuptools for these, which runs the archive's
`setup.py`. A stand-in for setuptools answers instead; and pip, told the sha256, refuses other bytes before it looks
into them.
"""

import os
from pathlib import Path

from promptgraft.packs.manifest import Archive

_SETUPTOOLS = """\
from pathlib import Path

class __legacy__:
    @staticmethod
    def prepare_metadata_for_build_wheel(folder, config_settings=None):
        info = Path(folder, "{package}-{version}.dist-info")
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n")
        return info.name
"""


def source_options(archive: Archive) -> list[str]:
    """Options and argument of `pip download` for a source archive, to be run with `stand_in`'s environment."""
    options = ["--no-binary=:all:", "--no-build-isolation", "--use-pep517", "--require-hashes"]
    return [*options, "--requirement", f"{archive.package}=={archive.version}/pinned.txt"]


def stand_in(archive: Archive, folder: Path) -> dict[str, str]:
    """Write what `source_options` needs into the working folder, and return the environment to run pip in."""
    requirement = f"{archive.package}=={archive.version}"
    root = folder.resolve() / requirement
    package = root / "setuptools"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "build_meta.py").write_text(_SETUPTOOLS.format(package=archive.package, version=archive.version))
    (root / "pinned.txt").write_text(f"{requirement} --hash=sha256:{archive.sha256}\n")
    return {**os.environ, "PYTHONPATH": str(root)}
