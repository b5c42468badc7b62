import ast
from pathlib import Path

import promptgraft

ROOT = Path(promptgraft.__file__).parent
ROOMS = [  # a room imports from rooms before it only; the map is in CONTRIBUTING.md
    *(
        "errors",
        "version",
        "registry",
        "files",
        "card",
        "readme",
        "progress",
        "intervals",
        "measured",
        "prompt",
        "library",
    ),
    *("packs", "backbones", "tasks", "initialization", "tuning", "transfer", "probing", "baselines", "exchange"),
    *("serving", "transferability", "ensembles", "analysis", "report", "adapt", "estimator", "study", "bench"),
    *("doctor", "cli", "__init__", "__main__"),
]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "promptgraft":
            parts = (node.module or "").split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("promptgraft.")}
    return rooms


def test_imports_go_one_way() -> None:
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        later = {name for name in imported_rooms(path) - {room} if ROOMS.index(name) > ROOMS.index(room)}
        assert not later, f"{path.relative_to(ROOT)} imports from {later}"
