"""Prompts on a model hub: pushed as folders of a repository, pulled back at one commit and read as a stranger's.

A repository holds one prompt at its root, or several, each in the folder of its name. Of what lies there only the two
files of a prompt are ever fetched, once their sizes are known, and a library takes all of it or nothing.
"""

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field, ValidationError

from promptgraft.card import Section
from promptgraft.errors import HubError, InputError, OfflineError, PromptFileError, PromptgraftError
from promptgraft.exchange.hub_card import hub_card
from promptgraft.files import canonical_json, read_file, write_atomic
from promptgraft.library import PromptLibrary, is_name
from promptgraft.progress import progress_bar
from promptgraft.prompt import CARD_FILE, CARD_LIMIT, TENSOR_FILE, TENSOR_LIMIT, SoftPrompt
from promptgraft.readme import printable
from promptgraft.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PULLED_FILE = "pulled.json"
"""Beside a prompt that was pulled: from where. The card stays as it is, since the id is its hash."""

MOST = 1000
"""Prompts of one pull; the bytes of their tensors together are bounded as those of a single prompt are."""

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_DATASET = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)
_TIMEOUT = 60.0  # seconds
_LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN."


class Pushed(NamedTuple):
    """The commit (40 hexadecimal digits) that a push made, and its page."""

    commit: str
    url: str


class Pulled(Section):
    """Where a prompt was pulled from: the hub's address, owner/name, the commit, and the folder; "" is the root."""

    hub: Annotated[str, Field(max_length=300)]
    repo: Annotated[str, Field(max_length=200)]
    commit: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
    folder: Annotated[str, Field(max_length=200)]


def push(
    prompts: SoftPrompt | Mapping[str, SoftPrompt],
    repo: str,
    *,
    private: bool = False,
    datasets: Sequence[str] = (),
    endpoint: str | None = None,
) -> Pushed:
    """Write prompts to a repository, which is made where there is none, in one commit.

    Args:
        prompts: one, for the root; or several by folder.
        repo: owner/name.
        private: make a new repository that others cannot see.
        datasets: names that the hub has for what the prompts were tuned on, for its filters.
        endpoint: the hub's address; None takes HF_ENDPOINT, else the one that huggingface_hub knows.

    Raises:
        InputError: a name is not usable; the repository holds other prompts, or is public and `private` is asked for.
        HubError: there is no token, it is refused, or the hub is out of reach.
        OfflineError: PROMPTGRAFT_OFFLINE or HF_HUB_OFFLINE is set.
    """
    from huggingface_hub import CommitOperationAdd, get_token

    folders = {"": prompts} if isinstance(prompts, SoftPrompt) else dict(prompts)
    _check_names(repo, folders, datasets)
    client = _client(endpoint)
    if get_token() is None:
        raise HubError(f"there is no token for {client.endpoint}, and {repo} is written with one only. {_LOG_IN}")
    with tempfile.TemporaryDirectory() as temporary:
        files: dict[str, Path | bytes] = {}
        for folder, prompt in folders.items():
            saved = prompt.save(Path(temporary) / (folder or "root"), name=folder or None)
            files |= {_join(folder, path.name): path for path in saved.iterdir()}
        files["README.md"] = hub_card(folders, repo, datasets).encode()
        with _asking(client, repo):
            client.create_repo(repo, private=private or None, exist_ok=True)
            found = client.model_info(repo, timeout=_TIMEOUT)
        if private and not found.private:
            raise InputError(f"{repo} is public already. Make it private on the hub, or push to another repository.")
        held = _prompt_folders(entry.rfilename for entry in found.siblings or ())
        if other := [folder or "one at its root" for folder in held if folder not in folders]:
            raise InputError(
                f"{repo} holds other prompts: {', '.join(map(printable, other[:5]))}. Push these as well, or push to "
                "another repository."
            )
        operations = [CommitOperationAdd(path, content) for path, content in sorted(files.items())]
        title = f"Push {len(folders)} prompt{'s' * (len(folders) > 1)} with promptgraft {__version__}"
        with _asking(client, repo):
            commit = client.create_commit(repo, operations, commit_message=title, parent_commit=found.sha)
    return Pushed(commit.oid, commit.commit_url)


def pull(
    source: str,
    library: PromptLibrary,
    *,
    subfolder: str | None = None,
    name: str | None = None,
    endpoint: str | None = None,
) -> dict[str, Pulled]:
    """Put the prompts of a repository into a library, all of them or none; where each came from, by name there.

    A new one has a `pulled.json` beside it that says the same.

    Args:
        source: owner/name or owner/name@revision: a branch, a tag or a commit. It stands for one commit from then on.
        library: to write to. A prompt in a folder takes the folder's name, one at the root that of its card.
        subfolder: only the prompt in this folder; "." is the root.
        name: for a single prompt.
        endpoint: as in `push`.

    Raises:
        InputError: the source or a name is not usable, or a name is taken by another prompt.
        PromptFileError: the repository holds no prompt, or one that is too large, damaged or altered.
        HubError: there is no such repository or revision, the token is refused, or the hub is out of reach.
        OfflineError: PROMPTGRAFT_OFFLINE or HF_HUB_OFFLINE is set.
    """
    repo, _, revision = source.partition("@")
    if not _REPO.fullmatch(repo) or source.endswith("@"):
        raise InputError(f"{source!r} names no repository. Write owner/name or owner/name@revision.")
    client = _client(endpoint)
    with _asking(client, repo, revision):
        found = client.model_info(repo, revision=revision or None, files_metadata=True, timeout=_TIMEOUT)
        commit, sizes = str(found.sha), {str(entry.rfilename): entry.size for entry in found.siblings or ()}
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise HubError(f"{client.endpoint} names no commit of {repo} to pin. Check HF_ENDPOINT.")
    label = f"{repo}@{commit[:12]}"
    folders = _wanted_folders(sizes, subfolder, label)
    if name is not None and len(folders) > 1:
        raise InputError(f"{label} holds {len(folders)} prompts, which cannot all be named {name!r}. Use --subfolder.")
    files = [_join(folder, file) for folder in folders for file in (CARD_FILE, TENSOR_FILE)]
    _check_sizes(files, sizes, label)
    named: dict[str, tuple[SoftPrompt, Pulled]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        with _asking(client, repo, revision), progress_bar("pulling", len(files), "file") as bar:
            for file in files:
                client.hf_hub_download(repo, file, revision=commit, local_dir=temporary)
                bar.advance()
        for folder in folders:
            prompt = _load(Path(temporary), folder, label)
            stored = name or folder or prompt.card.name
            if stored in named:
                raise InputError(f"{label} holds two prompts named {stored!r}. Pull one with --subfolder.")
            named[stored] = prompt, Pulled(hub=client.endpoint, repo=repo, commit=commit, folder=folder)
    _add_all(library, named)
    return {stored: origin for stored, (_, origin) in named.items()}


def read_pulled(folder: Path) -> Pulled | None:
    """Where the prompt in a folder was pulled from; None where nothing says so.

    Raises:
        PromptFileError: its `pulled.json` is damaged.
    """
    path = folder / PULLED_FILE
    try:
        return Pulled.model_validate_json(read_file(path, 1 << 12, inside=folder), strict=True)
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise PromptFileError(f"{path} does not say where the prompt was pulled from. Remove it.") from error


def _client(endpoint: str | None) -> "HfApi":
    from huggingface_hub import HfApi
    from huggingface_hub.constants import is_offline_mode

    if is_offline_mode() or os.environ.get("PROMPTGRAFT_OFFLINE", "0") not in ("", "0"):
        raise OfflineError("a hub is asked for, and HF_HUB_OFFLINE or PROMPTGRAFT_OFFLINE is set. Unset it.")
    return HfApi(endpoint=endpoint and endpoint.rstrip("/"), library_name="promptgraft", library_version=__version__)


@contextlib.contextmanager
def _asking(client: "HfApi", repo: str, revision: str = "") -> Iterator[None]:
    """Turn what the hub's client raises into one error with a cure, and keep its progress bars off the screen."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    if shown:
        disable_progress_bars()
    try:
        yield
    except Exception as error:  # a network, a proxy or a stranger's server can make the client fail with any type
        raise _hub_error(error, client.endpoint, repo, revision) from error
    finally:
        if shown:
            enable_progress_bars()


def _hub_error(error: Exception, hub: str, repo: str, revision: str) -> HubError:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{repo} has no revision {revision!r} on {hub}. Give a branch, a tag or a commit of it.")
    if isinstance(error, GatedRepoError):
        return HubError(f"{repo} is not open to you. Ask for access at {hub}/{repo}, then log in: `hf auth login`.")
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return HubError(f"{hub} has no repository {repo}, or hides it from you. Check the name. {_LOG_IN}")
    if status == 401:
        return HubError(f"{hub} does not accept your token for {repo}. {_LOG_IN}")
    if status == 403:
        return HubError(f"{hub} does not let your token do that with {repo}. Use one that may write there.")
    if status in (409, 412):
        return HubError(f"{repo} was changed by somebody else meanwhile. Push again.")
    reason = (str(error).strip().splitlines() or [""])[0]
    said = printable(f"{type(error).__name__}: {reason}")[:200].rstrip(".: ")
    if status is not None:
        return HubError(f"{hub} answered {status} for {repo} ({said}). Try again later.")
    return HubError(f"cannot talk to {hub} about {repo} ({said}). Check the network, the disk and HF_ENDPOINT.")


def _check_names(repo: str, folders: Mapping[str, SoftPrompt], datasets: Sequence[str]) -> None:
    if not _REPO.fullmatch(repo):
        raise InputError(f"{repo!r} names no repository. Write owner/name.")
    if not folders:
        raise InputError(f"there is no prompt to push to {repo}. Name one.")
    for folder in folders:
        if not (is_name(folder) or (not folder and len(folders) == 1)):
            raise InputError(f"{folder!r} cannot be the folder of a prompt. Use names that a library takes.")
    for dataset in datasets:
        if not _DATASET.fullmatch(dataset):
            raise InputError(f"{dataset!r} is not how a hub names a data set. Write owner/name.")


def _prompt_folders(files: Iterable[str]) -> list[str]:
    """Folders with a card, sorted; "" is the root."""
    split = (file.rpartition("/") for file in files)
    return sorted(folder for folder, _, file in split if file == CARD_FILE)


def _wanted_folders(sizes: Mapping[str, int | None], subfolder: str | None, label: str) -> list[str]:
    held = _prompt_folders(sizes)
    usable = [folder for folder in held if not folder or is_name(folder)]
    if len(usable) < len(held):
        warnings.warn(f"{label}: prompts in folders that no library can have are left out.", UserWarning, stacklevel=3)
    wanted = usable
    if subfolder is not None:
        wanted = [folder for folder in usable if (folder or ".") == subfolder.strip("/")]
    if not wanted:
        there = "" if subfolder is None else f" in {subfolder!r}"
        others = f" There are prompts in: {', '.join(f or '.' for f in usable[:5])}." if usable else ""
        raise PromptFileError(f"{label} holds no prompt{there}.{others} Choose another.")
    if len(wanted) > MOST:
        raise PromptFileError(
            f"{label} holds {len(wanted)} prompts, {MOST} is the most for one pull. Use --subfolder."
        )
    return wanted


def _check_sizes(files: Sequence[str], sizes: Mapping[str, int | None], label: str) -> None:
    """Refuse by what the hub lists, before anything is fetched; reading is bounded once more."""
    total = 0
    for file in files:
        if file not in sizes:
            raise PromptFileError(f"{label} lacks {file}. Choose a whole prompt with --subfolder.")
        size, limit = sizes[file], CARD_LIMIT if file.endswith(CARD_FILE) else TENSOR_LIMIT
        if not isinstance(size, int) or size > limit:
            raise PromptFileError(
                f"{label}: {file} has {size} bytes, {limit} is the most. Nothing was fetched; choose another prompt "
                "with --subfolder."
            )
        total += size
    if total > TENSOR_LIMIT:
        raise PromptFileError(
            f"{label} holds {total} bytes of prompts, {TENSOR_LIMIT} is the most for one pull. Use --subfolder."
        )


def _load(temporary: Path, folder: str, label: str) -> SoftPrompt:
    try:
        return SoftPrompt.load(temporary / folder)
    except PromptFileError as error:
        raise PromptFileError(str(error).replace(str(temporary), label)) from error


def _add_all(library: PromptLibrary, named: Mapping[str, tuple[SoftPrompt, Pulled]]) -> None:
    added = []
    try:
        for name, (prompt, origin) in named.items():
            new = not (library.folder / name / CARD_FILE).exists()
            library.add(prompt, name)
            if new:
                added.append(name)
                write_atomic(library.folder / name / PULLED_FILE, canonical_json(origin.model_dump()) + "\n")
    except PromptgraftError:
        for name in added:
            library.remove(name)
        raise


def _join(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file
