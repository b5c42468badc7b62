"""Errors that a user can act on: each message names the thing, the value, and the cure.

Everything raised on purpose derives from `PromptgraftError`; the command line prints its message and exits with 2.
"""

from collections.abc import Sequence


class PromptgraftError(Exception):
    """Root of all errors raised on purpose."""


class InputError(PromptgraftError, ValueError):
    """An argument, a name or a data file is not usable as given."""


class DocumentError(InputError):
    """A document holds mistakes; `mistakes` names each with its place, one line each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)

    def __reduce__(self) -> tuple[type["DocumentError"], tuple[tuple[str, ...]]]:
        return type(self), (self.mistakes,)


class PackError(PromptgraftError):
    """A pinned archive cannot be fetched, verified or read."""


class OfflineError(PackError):
    """Something must be fetched, and the network is switched off."""


class HubError(PromptgraftError):
    """A model hub is out of reach, refuses, or lacks what was asked for."""


class PromptFileError(PromptgraftError):
    """A prompt folder is incomplete, altered, or of an unknown format."""


class CompatibilityError(PromptgraftError, ValueError):
    """A prompt, a backbone and a task do not fit each other."""


class TrainingError(PromptgraftError):
    """A training run diverged or cannot go on."""
