"""Transfer methods, one file each.

The package is also the function: `promptgraft.transfer(source, backbone, task, method=...)` is
`promptgraft.tuning.tune.transfer`. A package and a function of one name would shadow each other, depending on what was
imported first.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptgraft.tuning.adapted import Adapted


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> "Adapted":
        from promptgraft.tuning.tune import transfer

        return transfer(*args, **options)


sys.modules[__name__].__class__ = _CallablePackage
