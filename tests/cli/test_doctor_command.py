import json
import shutil
from pathlib import Path
from typing import Any


def test_good_data_is_usable(promptgraft: Any, image_folder: Path) -> None:
    code, out, error = promptgraft("doctor", "data", image_folder)
    assert (code, error) == (0, "")
    assert out.splitlines()[1].split() == ["all", "40", "2", "20", "20", "20"]
    assert out.splitlines()[-1] == f"usable     next: promptgraft adapt {image_folder} --out DIR"


def test_an_error_gives_1_and_json_says_all(promptgraft: Any, image_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(image_folder, folder)
    (folder / "dark/\x1b[31mbad.png").write_text("x")
    code, out, error = promptgraft("doctor", "data", folder)
    assert (code, error) == (1, "")
    assert "error: 1 of 41 files unusable: dark/?[31mbad.png is not an image" in out
    assert out.splitlines()[-1].startswith("not usable as it is     next:")
    code, out, _ = promptgraft("doctor", "data", folder, "--json")
    found = json.loads(out)
    assert (code, found["usable"], found["layout"], found["splits"][0]["examples"]) == (1, False, "class folders", 40)
    assert set(found["findings"][0]) == {"severity", "what", "cure"}


def test_a_folder_of_tasks_shows_each(promptgraft: Any, tmp_path: Path) -> None:
    for name in ("svhn", "kitti"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train800.txt").touch()
    code, out, _ = promptgraft("doctor", "data", tmp_path)
    assert code == 1
    assert out.splitlines()[0].startswith("warning: 17 of the 19 tasks of VTAB-1k are missing: caltech101, ")
    assert "\nsvhn: error: " in out
    assert "\nkitti: error: " in out


def test_no_data_gives_2(promptgraft: Any, tmp_path: Path) -> None:
    code, out, error = promptgraft("doctor", "data", tmp_path / "nowhere")
    assert (code, out) == (2, "")
    assert "does not exist" in error


def test_a_prompt_is_looked_over(promptgraft: Any, make_prompt: Any, tmp_path: Path) -> None:
    folder = make_prompt(name="text/mine").save(tmp_path / "mine")
    code, out, error = promptgraft("doctor", "prompt", folder)
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("text/mine (")
    assert lines[2].split()[0] == "0"
    assert "val 0.750 (95 % interval 0.500 to 0.900, n = 16)" in lines
    assert lines[-1] == "nothing found"
    found = json.loads(promptgraft("doctor", "prompt", folder, "--json")[1])
    assert (found["shape"], found["layers"][0]["drift"], found["scores"]["val"]["n"]) == ([1, 4, 16], None, 16)
    assert promptgraft("doctor", "prompt", tmp_path / "none")[0] == 2


def test_the_words_of_a_named_model(
    promptgraft: Any, make_prompt: Any, tiny_bert_folder: Path, tmp_path: Path
) -> None:
    folder = make_prompt(dim=32).save(tmp_path / "mine")
    _, out, _ = promptgraft("doctor", "prompt", folder, "--backbone", f"dir:{tiny_bert_folder}")
    assert [line.partition(":")[0] for line in out.splitlines() if line.startswith("row")] == [
        f"row {i}" for i in range(4)
    ]


def test_a_run_is_looked_over(promptgraft: Any, image_folder: Path, tiny_vit_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    command = ["adapt", image_folder, "--backbone", f"dir:{tiny_vit_folder}", "--epochs", 2, "--out", out]
    assert promptgraft(*command)[0] == 0
    code, printed, error = promptgraft("doctor", "run", out)
    assert (code, error) == (0, "")
    assert printed.startswith("photos: ")
    assert "val " in printed
    found = json.loads(promptgraft("doctor", "run", out, "--json")[1])
    lines = printed.splitlines()
    start = lines.index(f"learning curve of {found['curve_of']}, epoch {found['best_epoch']} kept")
    assert lines[start + 1].split() == ["epoch", "train", "loss", "val", "loss", "val", "accuracy"]
    shown = [line.split() for line in lines[start + 2 : start + 2 + len(found["curve"])]]
    assert [int(line[0]) for line in shown] == [line["epoch"] for line in found["curve"]]
    assert [float(line[-1]) for line in shown] == [round(line["val_accuracy"], 3) for line in found["curve"]]
    assert found["task"] == "photos"
    assert "val_head" in found["scores"]
    result = json.loads((out / "result.json").read_text())
    result["confusion"]["matrix"] = [[4, 0], [4, 0]]
    (out / "result.json").write_text(json.dumps(result))
    code, printed, _ = promptgraft("doctor", "run", out)
    assert code == 1
    assert "error: all 8 test examples are taken for 'dark'. Nothing was learned" in printed


def test_the_installation_is_looked_over(promptgraft: Any) -> None:
    code, printed, _ = promptgraft("doctor", "environment")
    found = json.loads(promptgraft("doctor", "environment", "--json")[1])
    assert code == int(any(finding["severity"] == "error" for finding in found["findings"]))
    assert printed.startswith(f"Python {found['python']}, torch {found['torch']} ({found['build']})")
    assert found["offline"] == ["PROMPTGRAFT_OFFLINE"]
