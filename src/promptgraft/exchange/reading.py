"""Files that nobody vouches for: sizes are bounded before anything is read, nothing is unpickled or followed."""

import io
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from promptgraft.errors import InputError
from promptgraft.files import open_file, path_text, read_file, read_json
from promptgraft.readme import printable

LIMIT = 64 << 20
"""Bytes of one tensor, or of a file that must be read whole; a deep prompt of 48 x 40 x 8192 takes 63 million."""

HEADER_LIMIT = 1 << 20
"""Bytes of a configuration, and of the header of a safetensors file."""


def file_inside(folder: Path, name: str) -> Path:
    """The path of a file of a folder, which is no link out of it.

    Raises:
        InputError: there is no such file, or it lies elsewhere.
    """
    path = folder / name
    try:
        if not path.is_file():
            raise InputError(f"{path_text(folder)} has no file {name}. Give the whole folder.")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{path_text(path)} is a link to a file outside its folder. Copy the file itself there.")
    except OSError as error:
        raise InputError(f"cannot read {path_text(path)}: {error.strerror or error}.") from error
    return path


def read_bounded(path: Path, limit: int, cure: str = "Give an unaltered file.") -> bytes:
    """The bytes of a file of `limit` bytes at most.

    Raises:
        InputError: there is no such file, or it is larger.
    """
    try:
        return read_file(path, limit)
    except OSError as error:
        raise InputError(f"cannot read {path_text(path)}: {error.strerror or error}. {cure}") from error


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object of a configuration file.

    Raises:
        InputError: it is too large, or holds anything else.
    """
    data = read_bounded(path, HEADER_LIMIT)
    try:
        value = read_json(data)
    except ValueError as error:
        raise InputError(f"{path_text(path)} does not hold valid JSON ({error}). Get an unaltered copy.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path_text(path)} does not hold a JSON object. Get an unaltered copy.")
    return value


def read_torch(path: Path, limit: int = LIMIT, cure: str = "Give an unaltered file.") -> Any:
    """What `torch.save` wrote, tensors and containers of them only.

    Raises:
        InputError: the file is too large, unpacks to too much, is damaged, or holds code.
    """
    data = read_bounded(path, limit, cure)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path_text(path)} is not a file of torch.save, or is truncated ({error}). {cure}"
        ) from error
    if unpacked > limit:
        raise InputError(f"{path_text(path)} unpacks to {unpacked} bytes, more than the {limit} allowed. {cure}")
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file can fail anywhere in torch's reader, with any type
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(
            f"{path_text(path)} does not hold a plain tensor ({printable(reason)[:200]}). Get an unaltered copy of "
            "the file."
        ) from error


def read_safetensors(path: Path, wanted: Callable[[str], bool]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a safetensors file whose names are wanted, and the metadata of its header.

    Raises:
        InputError: the file is damaged, or its header or the wanted tensors together are too large.
    """
    length = int.from_bytes(_first_bytes(path, 8), "little")
    if length > HEADER_LIMIT:
        raise InputError(f"the header of {path_text(path)} takes {length} bytes; {HEADER_LIMIT} is the most.")
    found, room = {}, LIMIT // 4
    try:
        with safe_open(path, framework="pt") as file:
            for name in filter(wanted, file.keys()):
                shape = file.get_slice(name).get_shape()
                room -= math.prod(shape)
                if room < 0:
                    shown = printable(name)[:200]
                    raise InputError(f"{path_text(path)}: with {shown}, {shape}, it is too large for a prompt.")
                found[name] = file.get_tensor(name).clone()
            return found, dict(file.metadata() or {})
    except (SafetensorError, OSError, RuntimeError, KeyError, OverflowError) as error:
        raise InputError(
            f"{path_text(path)} is truncated or damaged ({printable(error)[:200]}). Get an unaltered copy."
        ) from error


def read_npy(path: Path) -> torch.Tensor:
    """The array of a `.npy` file; no pickle is ever read.

    Raises:
        InputError: it is no such file, is too large, is truncated, or holds objects.
    """
    start = _first_bytes(path, 12)  # magic string, version, length of the header in 2 bytes, from version 2 in 4
    if start[:6] != b"\x93NUMPY" or len(start) < 12:
        raise InputError(f"{path_text(path)} is not a .npy file. Write one with numpy.save.")
    length = int.from_bytes(start[8:10] if start[6] == 1 else start[8:12], "little")
    if length > HEADER_LIMIT:
        raise InputError(f"the header of {path_text(path)} takes {length} bytes; {HEADER_LIMIT} is the most.")
    try:  # mapped, so that a header that promises more than there is fails before anything is allocated
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.nbytes > LIMIT:
            raise InputError(f"{path_text(path)} is {array.shape}, too large for a prompt.")
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))
    except InputError:
        raise
    except Exception as error:  # numpy evaluates the header, and raises whatever a broken one makes it stumble on
        raise InputError(
            f"{path_text(path)} does not hold a plain array ({printable(error)[:200]}). Get an unaltered copy."
        ) from error


def floats(
    value: Any, path: str | os.PathLike[str], *, dims: tuple[int, ...] = (2,), limit: int = LIMIT
) -> NDArray[np.float32]:
    """One dense tensor of finite floats, as float32.

    Args:
        value: what a file holds.
        path: what messages call it.
        dims: how many dimensions it may have.
        limit: bytes of it.

    Raises:
        InputError: it is anything else.
    """
    name, shapes = path_text(path), " or ".join({2: "(P, D)", 3: "(L, P, D)"}[n] for n in dims)
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or value.is_nested:
        raise InputError(f"{name} holds a {type(value).__name__}; a prompt is one dense tensor {shapes}.")
    shape = tuple(value.shape)
    if len(shape) not in dims or not value.is_floating_point() or not 0 < value.numel() <= limit // 2:
        raise InputError(f"{name} holds {value.dtype} of shape {shape}; a prompt is a tensor of floats {shapes}.")
    rows: NDArray[np.float32] = value.detach().float().contiguous().numpy()
    bad = ~np.isfinite(rows).all(-1).reshape(-1)
    if bad.any():
        raise InputError(f"{name} holds NaN or infinite values in row {int(bad.argmax())}: its training diverged.")
    return rows


def _first_bytes(path: Path, count: int) -> bytes:
    try:
        with open_file(path) as stream:
            return stream.read(count)
    except OSError as error:
        raise InputError(f"cannot read {path_text(path)}: {error.strerror or error}. Check the path.") from error
