"""`SHA256SUMS` of a library, as `sha256sum -c` reads it, and its OpenSSH signature in `SHA256SUMS.sig`.

A prompt vouches for its own tensor and card; the list vouches for the library: every file, and no other prompt.
"""

import re
import shutil
import subprocess
from pathlib import Path

from promptgraft.errors import InputError, PromptFileError
from promptgraft.files import path_text, read_file, sha256_file, write_atomic
from promptgraft.library import PromptLibrary
from promptgraft.measured import MEASURED_FILE
from promptgraft.prompt import SoftPrompt

SUMS_FILE = "SHA256SUMS"
SIGNATURE_FILE = "SHA256SUMS.sig"
NAMESPACE = "promptgraft"
"""What a signature is for, `ssh-keygen -Y sign -n promptgraft`: one made for another purpose does not count."""

_LIMIT = 1 << 24  # bytes of SHA256SUMS; about 100,000 prompts
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def write_sums(library: PromptLibrary) -> int:
    """Write `SHA256SUMS` with every file of the library's prompts and its measured transfers; how many there are.

    Raises:
        InputError: the library is read-only, holds nothing, or holds a file whose name a line cannot have.
        PromptFileError: a prompt is damaged.
    """
    if library.read_only:
        raise InputError(f"library {library.folder} is read-only. Name another one.")
    for name in (*library.damaged(), *library.names()):
        SoftPrompt.load(library.folder / name)
    sums = _sums(library)
    if not sums:
        raise InputError(f"library {library.folder} holds no prompt to list. Add one first.")
    for file in sums:
        if not file.isprintable() or "\\" in file:
            raise InputError(f"{file!r} in {library.folder} cannot be listed. Rename it.")
    write_atomic(library.folder / SUMS_FILE, "".join(f"{digest}  {file}\n" for file, digest in sums.items()))
    return len(sums)


def check_sums(library: PromptLibrary) -> tuple[int, dict[str, str]] | None:
    """How many files are as `SHA256SUMS` lists them, and what is wrong with others, by path; None without a list.

    Files that are not listed count as wrong: else a prompt could be slipped into a signed library.

    Raises:
        PromptFileError: the list is damaged, too large, or a link out of the library.
    """
    path = library.folder / SUMS_FILE
    try:
        lines = read_file(path, _LIMIT, inside=library.folder).decode().removesuffix("\n").split("\n")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PromptFileError(f"cannot read {path}: {error}. Get an unaltered copy.") from error
    listed = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise PromptFileError(f"{path}, line {number} is not a sha256 and a file. Get an unaltered copy.")
        listed[match[2].removeprefix("./")] = match[1]
    found = _sums(library)
    wrong = dict.fromkeys(listed.keys() - found.keys(), f"is listed in {SUMS_FILE}, and is not there")
    for file, digest in found.items():
        if file not in listed:
            wrong[file] = f"is not listed in {SUMS_FILE}"
        elif digest != listed[file]:
            wrong[file] = f"was altered: its sha256 is not the one in {SUMS_FILE}"
    return len(listed.keys() & found.keys() - wrong.keys()), dict(sorted(wrong.items()))


def check_signature(library: PromptLibrary, signers: Path) -> str:
    """Who signed `SHA256SUMS`: the name that stands for the key in the file of allowed signers.

    Args:
        library: with the list and its signature.
        signers: who may sign, in the format of ALLOWED SIGNERS in ssh-keygen(1).

    Raises:
        InputError: there is no ssh-keygen, or no such file.
        PromptFileError: there is no signature, it is of nobody allowed, or not of this list.
    """
    program = shutil.which("ssh-keygen")
    if program is None:
        raise InputError("there is no ssh-keygen here to check the signature with. Install OpenSSH.")
    if not signers.is_file():
        raise InputError(f"there is no file {path_text(signers)} of allowed signers. Check the path.")
    sums, signature = library.folder.absolute() / SUMS_FILE, library.folder.absolute() / SIGNATURE_FILE
    for path in (sums, signature):
        if not path.is_file():
            raise PromptFileError(f"library {library.folder} has no {path.name}, so nobody has signed it.")
    allowed = ["-f", str(signers.absolute()), "-s", str(signature)]
    named = subprocess.run([program, "-Y", "find-principals", *allowed], capture_output=True, text=True)
    who = named.stdout.strip().splitlines()
    if named.returncode or not who:
        raise PromptFileError(f"{signature} is of nobody that {path_text(signers)} names. Do not trust the library.")
    with sums.open("rb") as content:
        verify = [program, "-Y", "verify", "-I", who[0], "-n", NAMESPACE, *allowed]
        if subprocess.run(verify, stdin=content, capture_output=True).returncode:
            raise PromptFileError(
                f"{signature} is not what {who[0]} signed as {NAMESPACE}: {SUMS_FILE} was altered, or the signature "
                "was made for something else. Do not trust the library."
            )
    return who[0]


def _sums(library: PromptLibrary) -> dict[str, str]:
    """sha256 by path, "/" between folders: what lies in prompt folders, and the measured transfers; no links."""
    folders = [library.folder / name for name in {*library.names(), *library.damaged()}]
    files = [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.name[0] != "."]
    files.append(library.folder / MEASURED_FILE)
    regular = [path for path in files if path.is_file() and not path.is_symlink()]
    return {path.relative_to(library.folder).as_posix(): sha256_file(path) for path in sorted(regular)}
