import io

import pytest
from rich.console import Console

from promptgraft import progress
from promptgraft.progress import progress_bar


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal of 100 columns would receive."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    return stream


def last_lines(stream: io.StringIO) -> list[str]:
    """The lines that stay on the screen: each frame begins by erasing the one before."""
    return [line.rstrip() for line in stream.getvalue().split("\x1b[2K")[-1].replace("\x1b[?25h", "").split("\n")]


def test_a_pipe_gets_nothing(capsys):
    with progress_bar("tokens", 3) as bar:
        bar.advance(2)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_rate_and_note(terminal):
    with progress_bar("tokens", 3, "img") as bar:
        bar.advance(3)
        bar.note("[bold]a name[/bold]")
    assert last_lines(terminal)[0].startswith("tokens ")
    assert "3/3" in last_lines(terminal)[0]
    assert last_lines(terminal)[0].endswith("[bold]a name[/bold]")


def test_it_can_be_switched_off(terminal, monkeypatch):
    monkeypatch.setenv("PROMPTGRAFT_PROGRESS", "0")
    with progress_bar("tokens", 3):
        pass
    assert "tokens" not in terminal.getvalue()


def test_a_bar_inside_another_goes_away(terminal):
    with progress_bar("starting", 2) as outer:
        for _ in range(2):
            with progress_bar("features", 5) as inner:
                inner.advance(5)
            outer.advance()
    assert [line.split()[0] for line in last_lines(terminal) if line] == ["starting"]
    with progress_bar("next", 1):
        pass
    assert last_lines(terminal)[0].startswith("next ")


def test_an_error_inside_leaves_no_bar_behind(terminal):
    with pytest.raises(ValueError, match="oh"), progress_bar("outer", 1), progress_bar("inner", 1):
        raise ValueError("oh")
    with progress_bar("next", 1):
        pass
    assert [line.split()[0] for line in last_lines(terminal) if line] == ["next"]


@pytest.mark.parametrize(("speed", "text"), [(None, "- img/s"), (41.2, "41 img/s"), (0.25, "4.0 s/img")])
def test_rate(speed, text):
    class Task:
        fields = {"unit": "img"}  # noqa: RUF012

    Task.speed = speed
    assert progress._RateColumn().render(Task).plain == text
