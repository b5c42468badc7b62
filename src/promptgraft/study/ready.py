"""Studies that come with the package, in several sizes: `ready/NAME/SIZE.yaml`."""

from importlib.resources import files
from pathlib import Path

from promptgraft.errors import InputError
from promptgraft.files import atomic_folder
from promptgraft.registry import did_you_mean

SIZES = ("smoke", "pocket", "paper")
"""From the smallest: does it run, what can be measured in an hour or two, what the papers did."""
DEFAULT_SIZE = "pocket"

_ROOT = files("promptgraft.study") / "ready"


def ready_studies() -> dict[str, tuple[str, ...]]:
    """Name -> the sizes that it comes in, from the smallest."""
    folders = sorted((entry for entry in _ROOT.iterdir() if entry.is_dir()), key=lambda entry: entry.name)
    return {folder.name: tuple(s for s in SIZES if (folder / f"{s}.yaml").is_file()) for folder in folders}


def init_study(name: str, size: str, folder: Path) -> Path:
    """Write a ready study as `folder/study.yaml`, to be run or changed.

    Returns:
        The file's path.

    Raises:
        InputError: no such study or size, or `folder` exists and is not empty.
    """
    known = ready_studies()
    if name not in known:
        raise InputError(
            f"there is no ready study named {name!r}.{did_you_mean(name, list(known))} Known: {', '.join(known)}."
        )
    if size not in known[name]:
        near = did_you_mean(size, list(known[name]))
        raise InputError(f"study {name!r} has no size {size!r}.{near} Known: {', '.join(known[name])}.")
    text = (_ROOT / name / f"{size}.yaml").read_text(encoding="utf-8")
    with atomic_folder(folder) as made:
        (made / "study.yaml").write_text(text, encoding="utf-8")
    return folder / "study.yaml"
