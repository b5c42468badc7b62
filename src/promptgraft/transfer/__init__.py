"""Transfer methods, one file each.

The package is also the function: `promptgraft.transfer(source, backbone, task, method=...)` is
`promptgraft.tuning.tune.transfer`. A package and a function of one name would shadow each other, depending on what was
imported first.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptgraft.transfer.relative import relative_search as relative_search
    from promptgraft.tuning.adapted import Adapted


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> "Adapted":
        from promptgraft.tuning.tune import transfer

        return transfer(*args, **options)


def __getattr__(name: str) -> Any:
    if name != "relative_search":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from promptgraft.transfer.relative import relative_search

    return relative_search


sys.modules[__name__].__class__ = _CallablePackage
