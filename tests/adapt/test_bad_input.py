"""What a mistake looks like: exit code 2, one line that names the thing, the value and the cure, nothing written."""

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptgraft.library import PromptLibrary
from promptgraft.tuning.adapted import load_adapted


@pytest.fixture
def refused(promptgraft, tmp_path) -> Callable[..., str]:
    """Run a command that has to be refused; returns its message."""

    def run(*arguments: object, out: Path | None = None) -> str:
        out = out or tmp_path / "out"
        before = sorted(tmp_path.glob("*"))
        code, printed, error = promptgraft(*arguments, "--out", out)
        assert code == 2, error
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert "Traceback" not in error
        assert not printed or "wrote" not in printed
        made = set(tmp_path.glob("*")) - set(before)
        assert made <= {tmp_path / "cache"}
        assert not list((tmp_path / "cache").rglob(".*"))
        return error.removeprefix("error: ").rstrip()

    return run


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (28, 28, 3), np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Class folders `a` and `b` of 8 pictures each."""
    for number in range(8):
        picture(tmp_path / "data" / "a" / f"{number}.png", number)
        picture(tmp_path / "data" / "b" / f"{number}.png", 100 + number)
    return tmp_path / "data"


def empty(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


def missing(data: Path) -> None:
    shutil.rmtree(data)


def one_class(data: Path) -> None:
    shutil.rmtree(data / "b")


def one_image(data: Path) -> None:
    for number in range(1, 8):
        (data / "b" / f"{number}.png").unlink()


def empty_class(data: Path) -> None:
    (data / "c").mkdir()


def loose_image(data: Path) -> None:
    picture(data / "loose.png")


def no_image(data: Path) -> None:
    (data / "a" / "notes.txt").write_text("not a picture")


def cut_image(data: Path) -> None:
    path = data / "a" / "0.png"
    path.write_bytes(path.read_bytes()[:400])


def no_bytes(data: Path) -> None:
    (data / "a" / "0.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (empty, "data folder {data} holds no class folders. Put the images of each class into a folder of its own."),
        (missing, "data {data} does not exist. Check the path; built-in tasks are called builtin/NAME."),
        (one_class, "data has one class, 'a', with 8 examples. A classifier needs two classes or more: add another."),
        (one_image, "data: class 'b' has 1 example, which cannot be divided between training and validation. Add"),
        (empty_class, "class folder {data}/c holds no images. Add some, or remove the folder."),
        (loose_image, "{data}/loose.png lies outside of a class folder. Put the images of each class into a"),
        (no_image, "{data}/a/notes.txt is not an image that can be decoded (UnidentifiedImageError). Remove it,"),
        (cut_image, "{data}/a/0.png is not an image that can be decoded (OSError). Remove it, or leave such files"),
        (no_bytes, "{data}/a/0.png is not an image that can be decoded (UnidentifiedImageError). Remove it, or"),
    ],
)
def test_image_folders(refused, folder, tiny_vit_folder, spoil, said):
    spoil(folder)
    assert refused("adapt", folder, "--backbone", f"dir:{tiny_vit_folder}").startswith(said.format(data=folder))


def test_bad_images_can_be_skipped(promptgraft, folder, tiny_vit_folder, tmp_path):
    no_image(folder)
    cut_image(folder)
    code, printed, error = promptgraft(
        "adapt", folder, "--backbone", f"dir:{tiny_vit_folder}", "--skip-bad", "--epochs", 1, "--out", tmp_path / "out"
    )
    assert (code, error) == (0, "")
    assert "2 unreadable files skipped" in printed


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "x.csv",
            "text,mood\ngood,1\nbad,0\n",
            "{path} has no label column among 'text', 'mood'. Name one of them",
        ),
        ("x.csv", "words,label\ngood,1\nbad,0\n", "{path} has no text column among 'words', 'label'. Name one of t"),
        ("x.csv", "text,label\n", "{path} has no rows. Add some, each with a text and a label."),
        ("x.csv", "text,label\ngood,1\n,0\n", "{path}, line 3: the text is empty. Fill it in, remove the line, or "),
        (
            "x.csv",
            "text,label\ngood,1,2\n",
            "{path}, line 2: 3 fields, and the header has 2 ('text', 'label'). Quote ",
        ),
        ("x.jsonl", '{"text": "a", "label"', "{path}, line 1: not JSON ("),
        ("x.csv", b"text,label\ncaf\xe9,1\n", "{path}, line 2: not UTF-8 text. Save the file as UTF-8."),
        ("x.parquet", "PAR1", "data file {path} is not one of .csv, .tsv, .jsonl. Pass one of these, or a folder."),
    ],
)
def test_text_files(refused, tmp_path, tiny_bert_folder, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refused("adapt", path, "--backbone", f"dir:{tiny_bert_folder}").startswith(said.format(path=path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--backbone", "packs/dinov2-smal"],
            "there is no pack named 'dinov2-smal'. Did you mean 'dinov2-small'?",
        ),
        (["--backbone", "dinov2-small"], "backbone 'dinov2-small' has no known source. Write packs/<name>,"),
        (["--backbone", "dir:/none/here"], "there is no folder /none/here to load a backbone from. Check the path."),
        (["--backbone", "hf/no/such"], "cannot load backbone 'no/such': "),
        (["--recipe", "shrot"], "there is no recipe named 'shrot'. Did you mean 'short'? Known: short, paper."),
        (["--epochs", 0], "recipe: epochs: Input should be greater than or equal to 1, got 0."),
        (["--prompt-length", 0], "prompt_length must be at least 1, got 0."),
        (["--top", -1], "top must be 0 or more prompts of the library, got -1."),
        (["--seed", -1], "seed must be a whole number from 0 to 2**63 - 1, got -1."),
        (["--seed", 2**70], "seed must be a whole number from 0 to 2**63 - 1, got 1180591620717411303424."),
        (["--n-train", 100], "photos: n_train=100 is more than the 60 examples available. Ask for fewer."),
        (["--n-train", 50, "--n-test", 11], "photos: n_train=50 + n_test=11 is more than the 60 examples available."),
        (["--n-train", 2], "photos: n_train=2 is less than the 3 classes. Ask for one of each class or more."),
        (["--n-train", 0], "photos: n_train=0 is not possible. Ask for 1 or more."),
        (["--n-val", 0], "task photos has no val examples. Add data, or ask for a larger part of it: n_val (--n-val"),
        (["--n-test", 0], "task photos has no test examples. Add data, or ask for a larger part of it: n_test"),
        (["--image-size", 30], "image size 30 does not fit the 14-pixel patches of"),
        (["--image-size", 0], "image size 0 does not fit the 14-pixel patches of"),
        (["--device", "cuda:77"], "device 'cuda:77' is not available ("),
        (["--device", "gpu"], "device 'gpu' is not available ("),
        (["--device", "meta"], "device 'meta' is not available ("),
        (["--dtype", "float16"], "dtype 'float16' is not known. Choose one of: float32, float64, bfloat16."),
        (["--budget", "5 minutes"], "--budget '5 minutes' is not a time. Write it like 90s, 5m or 1h."),
        (["--budget", "0s"], "--budget '0s' is not a time. Write it like 90s, 5m or 1h."),
        (["--library", "/none/here"], "there is no library folder /none/here. Give a folder of prompts, 'starter'"),
    ],
)
def test_options(refused, common, options, said):
    assert refused(*common, *options).startswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["adapt", "builtin/mnist5k"],
            "there is no built-in task named 'mnist5k'. Did you mean 'mnist-5k'?",
        ),
        (["tune", "{photos}", "--method", "spd"], "there is no method named 'spd'. Did you mean 'spt'? Known: "),
        (["tune", "{photos}", "--method", "initial"], "method 'initial' takes exactly one source prompt, got 0."),
        (["tune", "{photos}", "--layers", "dep"], "layers must be 'shallow' or 'deep', got 'dep'."),
        (
            ["adapt", "{photos}", "--backbone", "dir:{bert}"],
            "task photos holds images and backbone dir:{bert} takes",
        ),
        (
            ["adapt", "{texts}", "--backbone", "dir:{vit}"],
            "task texts holds texts and backbone dir:{vit} takes images",
        ),
        (["adapt", "{texts}", "--image-size", 28], "--image-size 28 does not apply: texts holds texts. Leave it out."),
    ],
)
def test_what_does_not_go_together(
    refused, photos, tiny_vit_folder, tiny_bert_folder, tmp_path_factory, arguments, said
):
    texts = tmp_path_factory.mktemp("texts") / "texts.csv"
    texts.write_text("text,label\n" + "".join(f"good {i},1\nbad {i},0\n" for i in range(20)))
    places = {"photos": photos, "vit": tiny_vit_folder, "bert": tiny_bert_folder, "texts": texts}
    command = [str(argument).format(**places) for argument in arguments]
    if "{photos}" in arguments and "--backbone" not in command:
        command += ["--backbone", f"dir:{tiny_vit_folder}"]
    assert refused(*command).startswith(said.format(**places))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("kind", "spoil", "said"),
    [
        ("vit", lambda at: cut(at / "model.safetensors"), "cannot load backbone '{at}': "),
        ("vit", lambda at: (at / "model.safetensors").unlink(), "cannot load backbone '{at}': "),
        ("vit", lambda at: cut(at / "config.json"), "cannot load backbone '{at}': "),
        ("vit", lambda at: (at / "config.json").unlink(), "cannot load backbone '{at}': "),
        ("bert", lambda at: (at / "tokenizer.json").unlink(), "backbone '{at}' comes without a tokenizer's"),
    ],
)
def test_damaged_backbones(refused, photos, tiny_vit_folder, tiny_bert_folder, tmp_path, kind, spoil, said):
    at = tmp_path / "model"
    shutil.copytree({"vit": tiny_vit_folder, "bert": tiny_bert_folder}[kind], at)
    spoil(at)
    assert refused("adapt", photos, "--backbone", f"dir:{at}").startswith(said.format(at=at))


def test_a_family_that_is_not_known(refused, photos, tiny_vit_folder, tmp_path):
    at = tmp_path / "model"
    shutil.copytree(tiny_vit_folder, at)
    config = json.loads((at / "config.json").read_text())
    (at / "config.json").write_text(json.dumps(config | {"model_type": "resnet"}))
    assert refused("adapt", photos, "--backbone", f"dir:{at}").startswith(
        "there is no model family named 'resnet'. Known: albert, bert,"
    )


def test_output_folders(refused, common, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert refused(*common, out=tmp_path / "full") == (
        f"output folder {tmp_path}/full exists and is not empty. Choose another name or remove it."
    )
    file = tmp_path / "full" / "file"
    assert refused(*common, out=file) == f"output {file} exists and is not a folder. Choose another name."
    assert refused(*common, out=file / "deeper" / "out").startswith(
        f"output folder {file}/deeper/out cannot be made: {file} is not a folder to write to."
    )
    assert file.read_text() == "mine"


def test_an_empty_folder_may_be_written_to(promptgraft, common, tmp_path):
    (tmp_path / "out").mkdir()
    assert promptgraft(*common, "--epochs", 1, "--out", tmp_path / "out")[0] == 0
    assert load_adapted(tmp_path / "out").classes == ("dark", "grey", "light")


PROMPTS = {"wide": (1, 48), "wide-deep": (2, 48), "deeper": (3, 32), "same": (1, 32), "same-deep": (2, 32)}


@pytest.fixture
def library(make_prompt, tmp_path_factory) -> PromptLibrary:
    library = PromptLibrary(tmp_path_factory.mktemp("libraries") / "prompts")
    for name, (layers, dim) in PROMPTS.items():
        library.add(make_prompt(layers, 4, dim, modality="vision", name=name))
    return library


@pytest.mark.parametrize(
    ("prompt", "method", "said"),
    [
        ("wide", "initial", "prompt 'wide' is 48 wide, backbone {backbone} takes 32. `--method projection` bridges"),
        (
            "wide",
            "frozen",
            "prompt 'wide' is 48 wide, backbone {backbone} takes 32. `--method projection` bridges",
        ),
        (
            "wide-deep",
            "initial",
            "prompt 'wide-deep' is 48 wide, backbone {backbone} takes 32. Only shallow prompts",
        ),
        ("wide-deep", "projection", "prompt 'wide-deep' is deep (2 layers); projection carries shallow prompts."),
        ("deeper", "initial", "prompt 'deeper' has 3 layers, backbone {backbone} takes 1 (shallow) or 2 (deep). No"),
        ("same", "vpt", "method 'vpt' takes no source prompt. `--method initial` starts from the source."),
        ("same", "inital", "there is no method named 'inital'. Did you mean 'initial'? Known: "),
        (
            "sam",
            "initial",
            "there is no prompt named 'sam' in {library}. Did you mean 'same'? `promptgraft library",
        ),
    ],
)
def test_prompts_that_do_not_fit(refused, library, photos, tiny_vit_folder, prompt, method, said):
    backbone = f"dir:{tiny_vit_folder}"
    command = ["transfer", prompt, photos, "--backbone", backbone, "--method", method, "--library", library.folder]
    assert refused(*command).startswith(said.format(backbone=backbone, library=library.folder))


@pytest.mark.parametrize("name", ["wide", "same", "same-deep"])
def test_the_bridge_that_is_named_holds(promptgraft, library, photos, tiny_vit_folder, tmp_path, name):
    method = "projection" if name == "wide" else "initial"
    command = ["transfer", name, photos, "--backbone", f"dir:{tiny_vit_folder}", "--method", method, "--epochs", 1]
    code, _, error = promptgraft(*command, "--library", library.folder, "--out", tmp_path / "out")
    assert (code, error) == (0, "")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "said"), [(cut, "is truncated or damaged ("), (flip, "was altered: tensor 'prompt'")]
)
def test_a_damaged_prompt_of_the_library(refused, common, library, spoil, said):
    path = library.folder / "same" / "prompt.safetensors"
    spoil(path)
    assert refused(*common, "--library", library.folder).startswith(f"{path} {said}")


def test_a_damaged_card_is_left_out_with_one_warning(promptgraft, common, library, tmp_path):
    cut(library.folder / "same" / "prompt.json")
    code, printed, error = promptgraft(*common, "--library", library.folder, "--top", 9, "--out", tmp_path / "out")
    assert code == 0
    assert error.startswith("warning: prompt 'same' is left out: ")
    assert error.count("\n") == 1
    assert "library: 4 prompts, 2 fit" in printed


@pytest.fixture
def adapted(promptgraft, photos, tiny_vit_folder, tmp_path) -> Path:
    folder = tmp_path / "adapted"
    assert promptgraft("tune", photos, "--backbone", f"dir:{tiny_vit_folder}", "--epochs", 1, "--out", folder)[0] == 0
    return folder


def other_width(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"dim": 32', b'"dim": 31').replace(b"[3,32]", b"[3,31]"))


@pytest.mark.parametrize("spoil", [cut, other_width, Path.unlink, lambda path: path.write_bytes(b"[]")])
@pytest.mark.parametrize(
    "name", ["adapted.json", "head.safetensors", "prompt/prompt.json", "prompt/prompt.safetensors"]
)
def test_a_damaged_adapted_folder(promptgraft, adapted, photos, name, spoil):
    spoil(adapted / name)
    code, printed, error = promptgraft("predict", adapted, photos / "dark")
    assert (code, printed) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert str(adapted) in error


def test_a_backbone_that_has_gone_or_changed(promptgraft, tiny_vit_folder, photos, tmp_path):
    at = tmp_path / "model"
    shutil.copytree(tiny_vit_folder, at)
    assert promptgraft("tune", photos, "--backbone", f"dir:{at}", "--epochs", 1, "--out", tmp_path / "adapted")[0] == 0
    flip(at / "model.safetensors")
    code, _, error = promptgraft("predict", tmp_path / "adapted", photos / "dark")
    assert code == 2
    assert error.startswith(f"error: backbone dir:{at} has other weights (")
    shutil.rmtree(at)
    code, _, error = promptgraft("predict", tmp_path / "adapted", photos / "dark")
    assert (code, error) == (2, f"error: there is no folder {at} to load a backbone from. Check the path.\n")


@pytest.fixture
def file_limit():
    """Let no file grow beyond so many bytes: the kernel refuses the write, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (2_000, "cannot cache image tokens in {cache}/tokens: File too large. Free some space or set PROMPTGRAFT_CAC"),
        (7_000, "cannot write {cache}/runs/"),  # a checkpoint
        (30_000, "cannot write {tmp}/"),  # the report
    ],
)
def test_a_full_disk(refused, promptgraft, common, file_limit, tmp_path, limit, said):
    command = [*common, "--n-train", 9, "--n-val", 6, "--n-test", 6]
    file_limit(limit)
    error = refused(*command)
    assert error.startswith(said.format(cache=tmp_path / "cache", tmp=tmp_path))
    assert "File too large. Free some space or " in error
    file_limit(resource.RLIM_INFINITY)
    code, _, error = promptgraft(*command, "--out", tmp_path / "out")  # what was cached till then does no harm
    assert (code, error) == (0, "")


def test_a_full_disk_while_tuning(refused, photos, tiny_vit_folder, file_limit, tmp_path):
    command = ["tune", photos, "--backbone", f"dir:{tiny_vit_folder}", "--n-train", 9, "--n-val", 6, "--n-test", 6]
    file_limit(7_000)
    assert refused(*command).startswith(f"cannot write {tmp_path}/cache/runs/")


def test_a_damaged_checkpoint_is_named(refused, promptgraft, common, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("promptgraft.adapt.run._retrain", stop)
        assert promptgraft(*common, "--out", tmp_path / "out")[0] == 130
    checkpoint = next((tmp_path / "cache" / "runs").rglob("*.safetensors"))
    cut(checkpoint)
    error = refused(*common)
    assert error.startswith(f"checkpoint {checkpoint} is damaged (")
    assert error.endswith("Remove it to start this run anew.")


def odd_images(folder: Path) -> list[Path]:
    """One image of each unusual kind, every one a picture of the same gradient or of nothing."""
    folder.mkdir(parents=True)
    ramp = np.linspace(0, 255, 40 * 30).reshape(30, 40)
    grey, colour = ramp.astype(np.uint8), np.stack([ramp, ramp[::-1], ramp[:, ::-1]], 2).astype(np.uint8)
    rgb = Image.fromarray(colour)
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.fromarray(grey))
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {
        "bit.png": Image.fromarray(grey > 128),
        "grey.png": Image.fromarray(grey),
        "grey-alpha.png": alpha.convert("LA"),
        "palette.gif": rgb.quantize(7),
        "palette-transparent.png": alpha.quantize(16),
        "deep.png": Image.fromarray((ramp * 200).astype(np.uint16)),
        "deep.tif": Image.fromarray((ramp * 200).astype(np.uint16)),
        "float.tif": Image.fromarray((ramp / 255).astype(np.float32)),
        "integer.tif": Image.fromarray((ramp * 1000).astype(np.int32)),
        "cmyk.jpg": rgb.convert("CMYK"),
        "lab.tif": rgb.convert("LAB"),
        "ycbcr.jpg": rgb.convert("YCbCr"),
        "alpha.webp": alpha,
        "pixel.png": rgb.resize((1, 1)),
        "line.png": rgb.resize((3000, 1)),
        "large.jpg": rgb.resize((2000, 1500)),
        "UPPER.JPEG": rgb,
        "no-suffix": rgb,
    }
    for name, image in images.items():
        image.save(folder / name, format="PNG" if name == "no-suffix" else None)
    rgb.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=exif)
    rgb.save(folder / "upright.png")
    return sorted(folder.iterdir())


def test_images_of_all_kinds_simply_work(promptgraft, tiny_vit_folder, tmp_path):
    data = tmp_path / "data"
    odd_images(data / "odd")
    for number in range(10):
        picture(data / "plain" / f"{number}.png", number)
    out = tmp_path / "out"
    code, _, error = promptgraft("adapt", data, "--backbone", f"dir:{tiny_vit_folder}", "--epochs", 1, "--out", out)
    assert (code, error) == (0, "")
    files = sorted((data / "odd").iterdir())
    code, printed, error = promptgraft("predict", out, *files, "--json")
    assert (code, error) == (0, "")
    answers = {Path(answer["input"]).name: answer for answer in json.loads(printed)}
    assert len(answers) == len(files) == 20
    turned, upright = (answers[name]["probability"] for name in ("turned.png", "upright.png"))
    assert turned == pytest.approx(upright, abs=1e-6)
