"""`measured.jsonl` in a library's folder: what its prompts reached on targets, beside what estimators said beforehand.

One JSON object a line. Whoever wrote it, it is read safely: its size and every value are bounded, and no link is
followed.
"""

import io
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from promptgraft.card import Modality, Section
from promptgraft.errors import InputError
from promptgraft.files import canonical_json, path_text, write_atomic
from promptgraft.readme import printable

MEASURED_FILE = "measured.jsonl"
MEASURED_LIMIT = 1 << 23  # bytes; about 15,000 transfers
_PATIENCE = 100  # bad lines after which the rest is not read

Name = Annotated[str, Field(min_length=1, max_length=300)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Accuracy = Annotated[float, Field(ge=0, le=1)]
Estimate = Annotated[float, Field(ge=-1e30, le=1e30)]  # differences of two stay finite


class Transfer(Section):
    """A source prompt that was transferred to a target, its accuracy tested, and how estimators had scored it.

    target, modality: what was adapted to. backbone, weights_sha256: the frozen model of the target. method: as the
    study's tables call it. source, source_id: name in the study, and id, of the prompt. accuracy: on the test split,
    mean over `seeds` seeds. baseline: the linear probe's, None where it was not measured. scores: of this source for
    this target, by estimator, mean over seeds, larger = transfers better. study: the study that measured it.
    """

    study: Name
    target: Name
    modality: Modality
    backbone: Name
    weights_sha256: Sha256
    method: Name
    source: Name
    source_id: Sha256
    accuracy: Accuracy
    baseline: Accuracy | None
    seeds: Annotated[int, Field(ge=1, le=10**6)]
    scores: Annotated[dict[Name, Estimate], Field(max_length=100)]

    @property
    def key(self) -> tuple[str, ...]:
        """Of two transfers with equal keys the later one stands."""
        return self.study, self.target, self.backbone, self.weights_sha256, self.method, self.source_id


def read_measured(folder: Path) -> tuple[list[Transfer], list[str]]:
    """The transfers in a library's folder, and a message for each line, or the file, that cannot be read."""
    path = folder / MEASURED_FILE
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return [], [f"{path_text(path)} is a link or no file. Put the file itself there."]
        with path.open("rb") as stream:
            content = stream.read(MEASURED_LIMIT + 1)
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"cannot read {path_text(path)}: {error.strerror or error}."]
    if len(content) > MEASURED_LIMIT:
        return [], [f"{path_text(path)} has more than the {MEASURED_LIMIT} bytes that it may have. Remove it."]
    found: dict[tuple[str, ...], Transfer] = {}
    problems: list[str] = []
    for number, line in enumerate(io.BytesIO(content), 1):
        if not line.strip():
            continue
        if len(problems) == _PATIENCE:
            break
        try:
            transfer = Transfer.model_validate_json(line, strict=True)
            found[transfer.key] = transfer
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            what = ": ".join([*map(str, first["loc"]), first["msg"]])
            problems.append(f"{path_text(path)}, line {number}: {printable(what)[:200]}. Remove the line.")
    return list(found.values()), problems


def write_measured(folder: Path, transfers: Iterable[Transfer]) -> int:
    """Add transfers to those of a library's folder, in place of earlier ones with their keys; how many there are now.

    The file is written whole or not at all. Of two that write at the same moment the later one wins.

    Raises:
        InputError: the file there cannot be read whole, so that lines would be lost; it would grow too large; or it
            cannot be written.
    """
    known, problems = read_measured(folder)
    if problems:
        raise InputError(problems[0])
    together = {transfer.key: transfer for transfer in (*known, *transfers)}
    lines = [canonical_json(together[key].model_dump()) + "\n" for key in sorted(together)]
    content = "".join(lines).encode()
    if len(content) > MEASURED_LIMIT:
        raise InputError(
            f"{path_text(folder / MEASURED_FILE)} would have {len(content)} bytes, more than the {MEASURED_LIMIT} "
            "that it may have. Use another library."
        )
    write_atomic(folder / MEASURED_FILE, content)
    return len(together)
