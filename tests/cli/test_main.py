import gc
import json
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from promptgraft import cli
from promptgraft.cli import app
from promptgraft.errors import PackError
from promptgraft.library import PromptLibrary
from promptgraft.prompt import SoftPrompt
from promptgraft.tuning.fit import Trainer
from promptgraft.version import __version__

ROOT = typer.main.get_command(app)


def commands(group: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


@pytest.fixture
def tuned(tiny_vit_folder: Path, image_folder: Path, tmp_path: Path, promptgraft: Any) -> Path:
    folder = tmp_path / "first"
    code, _, error = promptgraft(
        "tune", image_folder, "--backbone", f"dir:{tiny_vit_folder}", "--epochs", 2, "--out", folder
    )
    assert (code, error) == (0, "")
    return folder


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["adapt", "--help"], ["rank", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        f"import sys; from promptgraft.cli import main; main({arguments})\n"
        "print({'torch', 'transformers', 'numpy', 'pandas', 'sklearn', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_version(promptgraft: Any) -> None:
    assert promptgraft("--version") == (0, f"promptgraft {__version__}\n", "")


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "promptgraft", "tun"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'tune'" in done.stderr


def test_garbage_is_looked_for_less_often_in_the_command_s_own_process_alone() -> None:
    def threshold(call: str) -> str:
        script = f"import gc, sys; sys.argv = ['', '--version']; from promptgraft.cli import main; {call}"
        script += "; print(gc.get_threshold()[0])"
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.split("\n")[1]

    assert int(threshold("main()")) > int(threshold("main(['--version'])")) == gc.get_threshold()[0]


def test_unknown_command_names_the_nearest(promptgraft: Any) -> None:
    code, out, error = promptgraft("tun")
    assert (code, out) == (2, "")
    assert "'tune'" in error


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_example_of_every_command_fits_a_line_and_parses(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    [example] = re.findall(r"^Example: (.*)$", command.help, re.MULTILINE)
    assert len(f"Example: {example}") <= 78, "a wrapped example cannot be pasted"
    program, *arguments = shlex.split(example)
    assert (program, *arguments[: len(path)]) == ("promptgraft", *path)
    command.make_context(" ".join(path), arguments[len(path) :])  # fails on an unknown option or a missing argument


def test_input_error_is_one_line_and_2(promptgraft: Any, tmp_path: Path) -> None:
    code, out, error = promptgraft("tune", tmp_path / "nowhere", "--out", tmp_path / "x")
    assert (code, out) == (2, "")
    assert error == (
        f"error: data {tmp_path / 'nowhere'} does not exist. Check the path; built-in tasks are called builtin/NAME.\n"
    )


def test_taken_output_folder_is_refused_before_any_work(promptgraft: Any, image_folder: Path) -> None:
    code, _, error = promptgraft("tune", "builtin/nothing", "--out", image_folder)
    assert code == 2
    assert f"output folder {image_folder} exists and is not empty" in error


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (PackError("gone\x1b[31m.\nTry again."), 2, "error: gone?[31m. Try again.\n"),
        (KeyError("x"), 1, "error: promptgraft itself failed (KeyError: 'x'). Please report it, with the traceback"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(
    raised: BaseException, code: int, said: str, promptgraft: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise raised

    monkeypatch.setattr("promptgraft.packs.manifest.load_manifest", fail)
    got, out, error = promptgraft("packs", "ls")
    assert (got, out) == (code, "")
    assert error.startswith(said)
    assert error.count("\n") == 1
    monkeypatch.setenv("PROMPTGRAFT_TRACEBACK", "1")
    assert ("Traceback (most recent call last)" in promptgraft("packs", "ls")[2]) == (code != 130)


def test_warnings_are_one_line(promptgraft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn() -> dict[str, Any]:
        warnings.warn("something\nodd", UserWarning, stacklevel=1)
        return {}

    monkeypatch.setattr("promptgraft.packs.manifest.load_manifest", warn)
    assert promptgraft("packs", "ls", "--json") == (0, "[]\n", "warning: something odd\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{shlex.join([sys.executable, '-m', 'promptgraft', 'packs', 'ls', '--json'])} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


def test_tune_writes_a_model_and_names_the_next_command(promptgraft: Any, tuned: Path) -> None:
    assert SoftPrompt.load(tuned / "prompt").tensor.shape == (2, 10, 32)
    code, out, error = promptgraft("predict", tuned, tuned.parent / "none.png")
    assert (code, out) == (2, "")
    assert "none.png" in error


def test_tune_prints_accuracies(promptgraft: Any, tiny_vit_folder: Path, image_folder: Path, tmp_path: Path) -> None:
    arguments = ["tune", image_folder, "--backbone", f"dir:{tiny_vit_folder}", "--method", "spt", "--epochs", 1]
    code, out, error = promptgraft(*arguments, "--layers", "shallow", "--test", "--out", tmp_path / "a b")
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "photos: 40 images, 2 classes (train 28, val 6, test 6)"
    assert lines[1] == f"backbone dir:{tiny_vit_folder} (32-d, 2 layers, 28 px)"
    assert re.fullmatch(r"val accuracy [01]\.\d{3} \(95 % interval [01]\.\d{3} to [01]\.\d{3}, n = 6\)", lines[2])
    assert lines[3].startswith("test accuracy ")
    assert lines[4] == f"wrote {tmp_path / 'a b'}     next: promptgraft predict '{tmp_path / 'a b'}' new/"
    assert not list((tmp_path / "cache" / "runs").iterdir())  # the checkpoint is gone
    code, out, _ = promptgraft(*arguments, "--json", "--out", tmp_path / "json")
    result = json.loads(out)
    assert (code, result["method"], result["val_accuracy"]["n"]) == (0, "spt", 6)
    assert "test_accuracy" not in result


def test_a_stopped_run_goes_on(
    promptgraft: Any, tiny_vit_folder: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["tune", image_folder, "--backbone", f"dir:{tiny_vit_folder}", "--epochs", 4, "--out"]
    assert promptgraft(*arguments, tmp_path / "whole")[0] == 0
    epoch, epochs = Trainer._epoch, []

    def counted(trainer: Trainer) -> float:
        if len(epochs) == 2:
            raise KeyboardInterrupt
        epochs.append(trainer.epoch)
        return epoch(trainer)

    monkeypatch.setattr(Trainer, "_epoch", counted)
    code, _, error = promptgraft(*arguments, tmp_path / "stopped")
    assert (code, error) == (130, "stopped; run the same command to go on\n")
    assert not (tmp_path / "stopped").exists()
    epochs[:] = [-1]
    monkeypatch.setattr(Trainer, "_epoch", lambda trainer: epochs.append(trainer.epoch) or epoch(trainer))
    assert promptgraft(*arguments, tmp_path / "stopped")[0] == 0
    assert epochs == [-1, 2, 3]
    first, second = (SoftPrompt.load(tmp_path / name / "prompt") for name in ("whole", "stopped"))
    assert (first.tensor == second.tensor).all()


def test_transfer_from_a_folder_and_from_a_library(
    promptgraft: Any, tuned: Path, image_folder: Path, tmp_path: Path
) -> None:
    backbone = ["--backbone", SoftPrompt.load(tuned / "prompt").card.backbone.name]
    arguments = [image_folder, *backbone, "--method", "frozen"]
    assert promptgraft("transfer", tuned / "prompt", *arguments, "--out", tmp_path / "b")[0] == 0
    assert promptgraft("library", "add", tuned, "--name", "vision/mine")[0] == 0
    code, out, error = promptgraft("transfer", "vision/mine", *arguments, "--json", "--out", tmp_path / "c")
    assert (code, error) == (0, "")
    assert json.loads(out)["source"] == SoftPrompt.load(tuned / "prompt").card.name
    assert SoftPrompt.load(tmp_path / "b" / "prompt").card.parents == (SoftPrompt.load(tuned / "prompt").id,)
    code, _, error = promptgraft("transfer", "vision/min", *arguments, "--out", tmp_path / "d")
    assert code == 2
    assert "Did you mean 'vision/mine'?" in error


def test_a_prompt_of_another_width_is_refused(
    promptgraft: Any, tiny_vit_folder: Path, image_folder: Path, make_prompt: Any, tmp_path: Path
) -> None:
    make_prompt(dim=16).save(tmp_path / "narrow")
    code, _, error = promptgraft(
        *["transfer", tmp_path / "narrow", image_folder, "--method", "frozen"],
        *["--backbone", f"dir:{tiny_vit_folder}", "--out", tmp_path / "x"],
    )
    assert code == 2
    assert "'text/example' is 16 wide" in error
    assert "`--method projection` bridges widths." in error
    assert not (tmp_path / "x").exists()


def test_rank(promptgraft: Any, tiny_vit_folder: Path, image_folder: Path, make_prompt: Any, tmp_path: Path) -> None:
    library = PromptLibrary(tmp_path / "prompts")
    for seed, name in enumerate(["text/a", "text/b"]):
        library.add(make_prompt(dim=32, seed=seed, name=name))
    library.add(make_prompt(dim=16, name="text/narrow"))
    arguments = ["rank", image_folder, "--library", library.folder, "--backbone", f"dir:{tiny_vit_folder}"]
    code, out, error = promptgraft(*arguments)
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[2].split() == ["prompt", "leave-one-out", "gap", "norm", "volume"]
    assert [line.split()[0] for line in lines[3:6]][-1] == "text/narrow"
    assert [line.split()[0] for line in lines[6:8]] == ["leave-one-out", "gap"]
    assert all("has no score for text/narrow" in line for line in lines[6:8])
    assert lines[8] == "no measured transfer in this library: a rank is a guess"
    best = lines[3].split()[0]
    photos, *options = map(str, arguments[1:])
    # made for texts
    given = f"{shlex.quote(photos)} --method projection {shlex.join(options)}"
    assert [word.split()[0] for word in lines[9].removeprefix("seconds: ").split(", ")] == [
        *("leave-one-out", "gap", "norm", "volume")
    ]
    assert lines[10] == f"next: promptgraft transfer {best} {given} --out DIR"
    rows = json.loads(promptgraft(*arguments, "--json", "--estimators", "norm, gap")[1])
    assert [(row["estimator"], row["rank"]) for row in rows] == [(e, r) for e in ("norm", "gap") for r in (1, 2, 3)]
    assert [row["score"] for row in rows if row["prompt"] == "text/narrow" and row["estimator"] == "gap"] == [None]


def test_image_size_is_for_images(promptgraft: Any, tmp_path: Path) -> None:
    table = tmp_path / "texts.csv"
    table.write_text("text,label\n" + "".join(f"a text {n},{n % 2}\n" for n in range(40)))
    code, _, error = promptgraft("rank", table, "--image-size", 56, "--library", tmp_path / "cache")
    assert (code, "there is no library folder" in error) == (2, True)
    PromptLibrary(tmp_path / "prompts")
    code, _, error = promptgraft("tune", table, "--image-size", 56, "--out", tmp_path / "x")
    assert (code, error) == (2, "error: --image-size 56 does not apply: texts holds texts. Leave it out.\n")


def test_max_length_is_for_texts(promptgraft: Any, tmp_path: Path) -> None:
    arguments = ["tune", "builtin/digits", "--max-length", 64, "--n-train", 20, "--n-val", 10, "--n-test", 10]
    code, _, error = promptgraft(*arguments, "--out", tmp_path / "x")
    assert (code, error) == (2, "error: --max-length 64 does not apply: digits holds images. Leave it out.\n")


def test_resumable_commands_exist() -> None:
    assert set(ROOT.commands) >= cli.RESUMABLE
