"""`requirements.lock` is `constraints.txt` with hashes."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", pin[1]).lower(): pin[2] for pin in found if pin}


def test_the_lock_has_what_the_constraints_have_but_torch() -> None:
    constraints = pins("constraints.txt")
    assert "torch" in constraints
    assert pins("requirements.lock") == {name: version for name, version in constraints.items() if name != "torch"}


def test_everything_in_the_lock_has_hashes_and_no_place() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    assert len(entries) > 100
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host| @ ", text)
