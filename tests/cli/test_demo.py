import inspect
from pathlib import Path

from promptgraft.cli import adapt as adapt_command
from promptgraft.tasks.packed import BUILTIN


def test_demo_adapts_to_a_built_in_task(promptgraft, tmp_path, monkeypatch):
    calls = []
    signature = inspect.signature(adapt_command.adapt)
    monkeypatch.setattr(
        adapt_command, "adapt", lambda *args, **options: calls.append(signature.bind(*args, **options))
    )
    code, printed, error = promptgraft("demo", "--out", tmp_path / "demo")
    assert (code, error) == (0, "")
    assert printed.split() == ["report", str(tmp_path / "demo" / "report.html")]
    (call,) = calls
    assert call.arguments["data"].removeprefix("builtin/") in BUILTIN
    assert (call.arguments["out"], call.arguments["budget"]) == (tmp_path / "demo", "3m")
    assert call.arguments["image_size"] % 14 == 0
    promptgraft("demo")
    assert calls[1].arguments["out"] == Path("demo-report")
