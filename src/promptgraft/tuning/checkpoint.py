"""A training run on disk: one safetensors file, no pickle, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from promptgraft.errors import InputError
from promptgraft.files import open_file, write_atomic
from promptgraft.readme import printable


def save_checkpoint(path: Path, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Write named groups of tensors and a JSON state.

    Args:
        path: the file.
        tensors: group name -> tensor name -> tensor.
        state: anything JSON can hold.
    """
    flat = {
        f"{group}/{name}": value.detach().contiguous()
        for group, rows in tensors.items()
        for name, value in rows.items()
    }
    write_atomic(path, save(flat, {"state": json.dumps(state)}))


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what `save_checkpoint` wrote.

    Raises:
        InputError: the file is cut or altered.
    """
    tensors: dict[str, dict[str, Tensor]] = {}
    try:
        open_file(path).close()  # no pipe, which safetensors would wait for
        with safe_open(path, "pt") as file:
            state: dict[str, Any] = dict(json.loads(file.metadata()["state"]))
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                group, name = key.split("/", 1)
                tensors.setdefault(group, {})[name] = file.get_tensor(key)
    except Exception as error:  # of a header, a type or a state that its reader stumbles on
        raise damaged(path, error) from error
    return tensors, state


def damaged(path: Path, error: Exception) -> InputError:
    """The error about a checkpoint that cannot be used."""
    return InputError(f"checkpoint {path} is damaged ({printable(error)[:200]}). Remove it to start this run anew.")


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors: `<parameter number>.<key>`."""
    rows = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value for i, row in rows.items() for key, value in row.items() if isinstance(value, Tensor)}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
