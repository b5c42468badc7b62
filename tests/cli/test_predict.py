"""`promptgraft predict`: images, texts and pairs of texts from files, folders and the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TEXTS = [
    f"the {noun} is {word}" for noun in ("film", "plot", "cast", "song") for word in ("good", "fine", "bad", "dull")
]


def mood(text: str) -> str:
    return "up" if text.endswith(("good", "fine")) else "down"


@pytest.fixture
def images(promptgraft, image_folder, tiny_vit_folder, tmp_path) -> Path:
    """A classifier of dark and light images."""
    out = tmp_path / "images"
    command = ["tune", image_folder, "--backbone", f"dir:{tiny_vit_folder}", "--epochs", 1, "--out", out]
    assert promptgraft(*command)[0] == 0
    return out


@pytest.fixture
def texts(promptgraft, tiny_bert_folder, tmp_path) -> Path:
    """A linear probe on single texts."""
    rows = "\n".join(f"{text},{mood(text)}" for text in TEXTS)
    (tmp_path / "moods.csv").write_text(f"text,label\n{rows}\n")
    out = tmp_path / "texts"
    command = ["tune", tmp_path / "moods.csv", "--backbone", f"dir:{tiny_bert_folder}", "--method", "linear"]
    assert promptgraft(*command, "--out", out)[0] == 0
    return out


@pytest.fixture
def pairs(promptgraft, tiny_bert_folder, tmp_path) -> Path:
    """A linear probe on pairs of texts."""
    rows = "\n".join(f"a song,{text},{mood(text)}" for text in TEXTS)
    (tmp_path / "pairs.csv").write_text(f"text,text2,label\n{rows}\n")
    out = tmp_path / "pairs"
    command = ["tune", tmp_path / "pairs.csv", "--backbone", f"dir:{tiny_bert_folder}", "--method", "linear"]
    assert promptgraft(*command, "--out", out)[0] == 0
    return out


@pytest.fixture
def answers(promptgraft):
    """Run `predict --json`; returns what it printed, read."""

    def run(*arguments):
        code, printed, error = promptgraft("predict", *arguments, "--json")
        assert (code, error) == (0, "")
        return json.loads(printed)

    return run


@pytest.fixture
def refused(promptgraft):
    def run(*arguments):
        code, printed, error = promptgraft("predict", *arguments)
        assert (code, printed, error.count("\n")) == (2, "", 1)
        return error.removeprefix("error: ").rstrip()

    return run


def test_a_table_for_people(promptgraft, images, image_folder):
    files = [image_folder / "dark" / "00.png", image_folder / "light" / "07.png"]
    code, printed, error = promptgraft("predict", images, *files)
    assert (code, error) == (0, "")
    lines = printed.splitlines()
    assert lines[0].split() == ["input", "class", "p"]
    assert [line.split()[:2] for line in lines[1:]] == [[str(files[0]), "dark"], [str(files[1]), "light"]]
    assert len({line.index(name) for line, name in zip(lines[1:], ("dark ", "light"), strict=True)}) <= 2
    for line in lines[1:]:
        assert 0.5 <= float(line.split()[2]) <= 1


def test_the_second_class_is_shown_where_it_is_near(promptgraft, images, image_folder, monkeypatch):
    import numpy as np

    from promptgraft.tuning.adapted import Adapted

    monkeypatch.setattr(Adapted, "predict_proba", lambda self, items: np.array([[0.31, 0.69], [0.05, 0.95]]))
    _, printed, _ = promptgraft("predict", images, image_folder / "dark" / "00.png", image_folder / "dark" / "01.png")
    assert printed.splitlines()[1].endswith("light   0.69   (dark 0.31)")
    assert printed.splitlines()[2].endswith("light   0.95")


def test_json_is_a_list_of_answers_in_order(answers, images, image_folder):
    files = [image_folder / "light" / "03.png", image_folder / "dark" / "05.png"]
    found = answers(images, *files)
    assert [set(answer) for answer in found] == [{"input", "class", "probability"}] * 2
    assert [(answer["input"], answer["class"]) for answer in found] == [
        (str(files[0]), "light"),
        (str(files[1]), "dark"),
    ]
    assert all(0.5 <= answer["probability"] <= 1 for answer in found)


def test_folders_are_searched_through_and_through(answers, images, image_folder, tmp_path):
    root = tmp_path / "new"
    shutil.copytree(image_folder, root / "deep" / "deeper")
    (root / "README.txt").write_text("not a picture")
    (root / ".hidden.png").write_bytes(b"")
    found = answers(images, root, image_folder / "dark" / "00.png")
    assert len(found) == 41
    assert [Path(answer["input"]).name for answer in found[:2]] == ["00.png", "01.png"]
    assert all(Path(answer["input"]).parent.name == answer["class"] for answer in found)


def test_more_images_than_a_chunk(answers, images, image_folder):
    files = sorted((image_folder / "dark").iterdir()) * 5
    found = answers(images, *files)
    assert [answer["input"] for answer in found] == list(map(str, files))
    assert found[:20] == found[80:]


def test_damaged_images(promptgraft, refused, answers, images, image_folder, tmp_path):
    bad, good = tmp_path / "bad.png", image_folder / "dark" / "00.png"
    bad.write_bytes(good.read_bytes()[:300])
    assert refused(images, good, bad).startswith(f"{bad} is not an image that can be decoded (")
    code, printed, error = promptgraft("predict", images, bad, good, "--skip-bad", "--json")
    assert (code, error) == (0, "1 unreadable input skipped\n")
    assert [answer["input"] for answer in json.loads(printed)] == [str(good)]


def test_nothing_to_classify(refused, images, texts, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "empty.csv").write_text("text\n")
    assert refused(images, tmp_path / "empty") == f"folder {tmp_path}/empty holds no images. Check the path."
    assert refused(images, tmp_path / "no.png") == f"there is no file {tmp_path}/no.png. Check the path."
    assert refused(texts, tmp_path / "no.csv") == f"there is no file {tmp_path}/no.csv. Check the path."
    assert refused(texts, tmp_path / "empty.txt") == f"{tmp_path}/empty.txt holds no text. Write one text a line."
    assert refused(texts, tmp_path / "empty.csv").startswith(f"{tmp_path}/empty.csv has no rows.")
    assert refused(texts, " ") == "the text ' ' is empty. Give one, or a file of texts."


def test_what_is_no_adapted_model(refused, image_folder, tmp_path):
    assert refused(tmp_path / "none", image_folder) == (
        f"{tmp_path}/none holds no adapted model: adapted.json is missing."
    )


def test_texts_as_arguments(answers, texts):
    words = ["the film is good", "  the plot is dull ", "the cast, it was fine.", "x" * 5000]
    found = answers(texts, *words)
    assert [answer["input"] for answer in found] == words
    assert [answer["class"] for answer in found[:2]] == ["up", "down"]


@pytest.mark.parametrize(
    ("name", "content", "lines"),
    [
        ("new.txt", "the film is good\n\n  the plot is dull\r\n", (1, 3)),
        ("new.csv", "id,text\n1,the film is good\n2, the plot is dull\n", (2, 3)),
        ("new.CSV", "sentence;label\nthe film is good;?\n\nthe plot is dull;\n", (2, 4)),
        ("new.tsv", "text\tn\nthe film is good\t1\nthe plot is dull\t2\n", (2, 3)),
        ("new.jsonl", '{"text": "the film is good"}\n\n{"text": "the plot is dull"}\n', (1, 3)),
        ("new.txt", "\ufeffthe film is good\nthe plot is dull", (1, 2)),
    ],
)
def test_text_files(answers, texts, tmp_path, name, content, lines):
    path = tmp_path / name
    path.write_bytes(content.encode())
    found = answers(texts, path)
    assert [answer["input"] for answer in found] == [f"{path}:{line}" for line in lines]
    alone = answers(texts, "the film is good", "the plot is dull")
    assert [answer["class"] for answer in found] == ["up", "down"]
    assert [a["probability"] for a in found] == pytest.approx([a["probability"] for a in alone], abs=1e-6)


def test_files_and_texts_mix(answers, texts, tmp_path):
    (tmp_path / "new.txt").write_text("the film is bad")
    found = answers(texts, "the film is good", tmp_path / "new.txt")
    assert [answer["class"] for answer in found] == ["up", "down"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("new.csv", "words\na\n", "{path} has no text column among 'words'. Name one of them 'text'."),
        (
            "new.csv",
            "text,text2\na,b\n",
            "{path} has a second text column, and the classifier takes single texts. Rem",
        ),
        ("new.csv", "id,text\n1,good\n2,\n", "{path}, line 3: the text is empty. Fill it in, remove the line, or "),
        ("new.jsonl", '{"text": "good"}\n{"text": null}\n', "{path}, line 2: the text is empty. Fill it in, "),
        ("new.txt", b"caf\xe9", "{path} is not UTF-8 text. Save the file as UTF-8."),
        ("new.md", "good", "{path} is not one of .csv, .tsv, .jsonl, .txt. Write the texts to one of these."),
    ],
)
def test_text_files_that_cannot_be_used(refused, texts, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refused(texts, path).startswith(said.format(path=path))


def test_empty_texts_can_be_skipped(promptgraft, texts, tmp_path):
    (tmp_path / "new.jsonl").write_text('{"text": "good"}\n{"text": null}\n{"id": 3}\n{"text": " "}\n')
    code, printed, error = promptgraft("predict", texts, tmp_path / "new.jsonl", "--skip-bad", "--json")
    assert (code, error) == (0, "3 unreadable inputs skipped\n")
    assert [answer["input"] for answer in json.loads(printed)] == [f"{tmp_path}/new.jsonl:1"]


def test_pairs(answers, refused, pairs, tmp_path):
    (tmp_path / "new.csv").write_text("text,text2\na song,the film is good\na song,the film is bad\n")
    (tmp_path / "new.jsonl").write_text('{"sentence1": "a song", "sentence2": "the film is fine"}\n')
    found = answers(pairs, tmp_path / "new.csv", tmp_path / "new.jsonl")
    assert [answer["class"] for answer in found] == ["up", "down", "up"]
    assert refused(pairs, "the film is good").startswith(
        "the classifier takes pairs of texts, got 'the film is good'. Write them to a .csv or .jsonl file"
    )
    (tmp_path / "new.txt").write_text("the film is good")
    assert refused(pairs, tmp_path / "new.txt").startswith("the classifier takes pairs of texts: write ")
    (tmp_path / "one.csv").write_text("text\nthe film is good\n")
    assert refused(pairs, tmp_path / "one.csv").startswith(f"{tmp_path}/one.csv has no text2 column among 'text'.")


HOSTILE = ["new\nline.png", "\x1b[31mred\x1b[0m.png", "\u202egnp.dlo.png", "[bold]x.png", "tab\there.png"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_names_reach_no_terminal(promptgraft, answers, images, image_folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # a short path, which the table shows whole
    path = Path(name)
    path.write_bytes((image_folder / "dark" / "00.png").read_bytes())
    code, printed, error = promptgraft("predict", images, path)
    assert (code, error) == (0, "")
    assert len(printed.splitlines()) == 2
    assert all(letter.isprintable() for line in printed.split("\n") for letter in line)
    if name.startswith("["):
        assert name in printed  # no markup
    assert [answer["input"] for answer in answers(images, path)] == [str(path)]
    path.write_bytes(b"")
    code, _, error = promptgraft("predict", images, path)
    assert (code, error.count("\n")) == (2, 1)
    assert all(letter.isprintable() for letter in error.rstrip("\n"))


def test_names_that_are_no_unicode(images, image_folder, tiny_vit_folder, tmp_path, monkeypatch):
    """A file and a class named in Latin-1: through the whole of it, in a process of its own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        Path(os.fsdecode(data + b"/\xe9t\xe9")).mkdir(parents=True)
    except OSError:
        pytest.skip("the file system takes names in UTF-8 only")
    for number, path in enumerate(sorted((image_folder / "dark").iterdir())):
        shutil.copy(path, data + b"/\xe9t\xe9/" + f"{number}".encode() + b"\xe8.png")
    shutil.copytree(image_folder / "light", os.fsdecode(data) + "/light")
    words = [sys.executable, "-m", "promptgraft"]
    command = ["adapt", data, "--backbone", f"dir:{tiny_vit_folder}", "--epochs", "1", "--out", data + b"-out"]
    done = subprocess.run([*words, *command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    done.stdout.decode("utf-8")
    out = Path(os.fsdecode(data) + "-out")
    assert json.loads((out / "result.json").read_text("utf-8"))["task"]["classes"] == [r"\udce9t\udce9", "light"]
    assert "udce9" in (out / "report.html").read_text("utf-8")
    done = subprocess.run([*words, "predict", out, data, "--json"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout.decode("utf-8"))
    assert len(found) == 40
    assert {answer["class"] for answer in found} == {"light", r"\udce9t\udce9"}
