import errno
import hashlib
import json
import os
import random
import shutil
import warnings

import numpy as np
import pytest
import safetensors.numpy
import torch

from promptgraft.errors import InputError, PromptFileError
from promptgraft.files import canonical_json
from promptgraft.prompt import SoftPrompt, read_card
from promptgraft.readme import prompt_readme


@pytest.fixture
def folder(make_prompt, tmp_path):
    return make_prompt(layers=2, head=True).save(tmp_path / "p")


def edit_card(folder, change):
    path = folder / "prompt.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def reseal(folder, change):
    """Rewrite card, id and header as a writer of another version would."""
    path = folder / "prompt.json"
    content = json.loads(path.read_text())
    table = content.pop("tensors")
    content.pop("id")
    change(content)
    arrays = safetensors.numpy.load_file(folder / "prompt.safetensors")
    identity = hashlib.sha256(arrays["prompt"].tobytes() + canonical_json(content).encode()).hexdigest()
    path.write_text(json.dumps(content | {"id": identity, "tensors": table}))
    safetensors.numpy.save_file(arrays, folder / "prompt.safetensors", {"promptgraft": json.dumps({"id": identity})})
    return identity


# the value


def test_id_is_sha256_of_tensor_bytes_and_canonical_card(make_prompt):
    prompt = make_prompt()
    card = json.dumps(prompt.card.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert prompt.id == hashlib.sha256(prompt.tensor.numpy().tobytes() + card.encode()).hexdigest()


def test_nothing_done_to_what_is_handed_out_changes_the_prompt(make_prompt):
    given = make_prompt().tensor
    source = given.clone()
    prompt = SoftPrompt(
        source, make_prompt().card, head=(torch.ones(2, 16), torch.zeros(2)), state={"w": torch.ones(3)}
    )
    before = prompt.id
    for tensor in (source, prompt.tensor, prompt.head.weight, prompt.state["w"], prompt.rows()):
        tensor.zero_()
    assert torch.equal(prompt.tensor, given)
    assert prompt.head.weight.eq(1).all()
    assert prompt.state["w"].eq(1).all()
    again = SoftPrompt(prompt.tensor, prompt.card)
    assert again.id == before
    with pytest.raises(AttributeError):
        prompt.tensor = given


def test_accepts_numpy_parameters_and_half_precision(make_prompt):
    card = make_prompt().card
    values = make_prompt().tensor
    assert SoftPrompt(torch.nn.Parameter(values), card) == SoftPrompt(values.double().numpy(), card)
    assert torch.equal(SoftPrompt(values.bfloat16(), card).tensor, values.bfloat16().float())
    with pytest.raises(InputError, match="int64"):
        SoftPrompt(torch.ones(1, 4, 16, dtype=torch.int64), card)


def test_equal_only_if_card_tensor_and_head_are(make_prompt):
    assert make_prompt() == make_prompt()
    assert make_prompt() != make_prompt(seed=1)
    assert make_prompt() != make_prompt(licence="MIT")
    assert make_prompt().id == make_prompt(head=True).id
    assert make_prompt() != make_prompt(head=True)


def test_rows_leave_out_dead_ones(make_prompt):
    base = make_prompt(layers=2)
    alive = make_prompt(layers=2, prompt=base.card.prompt.model_copy(update={"dead_rows": (0, 2)})).rows()
    assert torch.equal(alive, base.tensor[:, [1, 3]].reshape(4, 16))
    with pytest.raises(InputError, match="not all"):
        make_prompt(prompt=make_prompt().card.prompt.model_copy(update={"dead_rows": (0, 1, 2, 3)}))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(4, 16), "layers, length, width"),
        (torch.ones(1, 0, 16), "at least one row"),
        (torch.ones(1, 5, 16), "says layers 1, length 4, dim 16"),
        (torch.full((1, 4, 16), 1e300, dtype=torch.float64), "inf in layer 0, row 0"),
    ],
)
def test_tensor_that_does_not_fit_the_card_is_refused(make_prompt, tensor, message):
    with pytest.raises(InputError, match=message):
        SoftPrompt(tensor, make_prompt().card)


def test_nan_is_reported_with_layer_and_row(make_prompt):
    prompt = make_prompt(layers=2)
    values = prompt.tensor
    values[1, 2, 5] = float("nan")
    with pytest.raises(InputError, match="nan in layer 1, row 2"):
        SoftPrompt(values, prompt.card)
    with pytest.raises(InputError, match=r"state\.w"):
        SoftPrompt(prompt.tensor, prompt.card, state={"w": torch.tensor([float("inf")])})


def test_shape_must_suit_the_backbone(make_prompt):
    backbone = make_prompt().card.backbone
    albert = backbone.model_copy(update={"dim": 32})
    assert make_prompt(backbone=albert).tensor.shape == (1, 4, 16)
    with pytest.raises(InputError, match="takes dim = 32"):
        make_prompt(layers=2, backbone=albert)
    with pytest.raises(InputError, match=r"2 layers.*12 \(deep\)"):
        make_prompt(layers=2, backbone=backbone.model_copy(update={"depth": 12}))


def test_head_must_fit_the_classes(make_prompt):
    prompt = make_prompt()
    with pytest.raises(InputError, match="2 classes"):
        SoftPrompt(prompt.tensor, prompt.card, head=(torch.ones(3, 16), torch.zeros(3)))


@pytest.mark.parametrize("value", [float("nan"), object(), "\ud800"])
def test_card_that_json_cannot_hold_is_refused(make_prompt, value):
    training = make_prompt().card.training.model_copy(update={"recipe": {"lr": value}})
    with pytest.raises(InputError, match="JSON"):
        make_prompt(training=training)


# the folder


def test_round_trip(make_prompt, tmp_path):
    made = make_prompt(layers=2)
    prompt = SoftPrompt(
        made.tensor, made.card, head=(torch.randn(2, 7), torch.randn(2)), state={"gate.weight": torch.randn(3)}
    )
    loaded = SoftPrompt.load(prompt.save(tmp_path / "a" / "p"))
    assert loaded == prompt
    assert loaded.card == prompt.card
    assert torch.equal(loaded.head.weight, prompt.head.weight)
    assert torch.equal(loaded.state["gate.weight"], prompt.state["gate.weight"])
    assert read_card(tmp_path / "a" / "p") == (prompt.id, prompt.card)
    assert sorted(p.name for p in (tmp_path / "a" / "p").iterdir()) == [
        "README.md",
        "prompt.json",
        "prompt.safetensors",
    ]
    with safetensors.safe_open(tmp_path / "a" / "p" / "prompt.safetensors", "np") as file:
        assert json.loads(file.metadata()["promptgraft"]) == {"format_version": 1, "id": prompt.id}


def test_equal_prompts_give_equal_files(make_prompt, tmp_path):
    first, second = (make_prompt(head=True).save(tmp_path / name) for name in "ab")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_non_empty_folder_is_not_overwritten(folder, make_prompt):
    with pytest.raises(InputError, match="not empty"):
        make_prompt().save(folder)


@pytest.mark.parametrize("call", ["os.replace", "pathlib.Path.write_bytes", "pathlib.Path.write_text"])
def test_full_disk_leaves_nothing_behind(make_prompt, tmp_path, monkeypatch, call):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(call, full)
    with pytest.raises(InputError, match="No space left"):
        make_prompt().save(tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_altered_tensor_is_named(folder):
    path = folder / "prompt.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(PromptFileError, match="tensor 'prompt' is not the one"):
        SoftPrompt.load(folder)


def test_altered_card_is_named(folder):
    edit_card(folder, lambda card: card["task"].update(n_train=33))
    with pytest.raises(PromptFileError, match=r"prompt\.json was altered"):
        SoftPrompt.load(folder)


def test_files_of_two_prompts_are_not_mixed(folder, make_prompt, tmp_path):
    other = make_prompt(layers=2, head=True, seed=1).save(tmp_path / "q")
    shutil.copy(other / "prompt.safetensors", folder)
    with pytest.raises(PromptFileError, match="another prompt"):
        SoftPrompt.load(folder)


@pytest.mark.parametrize("key", ["id", "tensors", "format_version", "method", "task.name", "backbone.weights_sha256"])
def test_missing_key_is_named(folder, key):
    *sections, last = key.split(".")

    def drop(card):
        for section in sections:
            card = card[section]
        del card[last]

    edit_card(folder, drop)
    with pytest.raises(PromptFileError, match=f"lacks the key '{key}'"):
        SoftPrompt.load(folder)


def test_newer_major_format_asks_for_an_update(folder):
    edit_card(folder, lambda card: card.update(format_version=2, prompt="unlike anything known"))
    with pytest.raises(PromptFileError, match=r"made by a newer promptgraft .*pip install -U promptgraft"):
        SoftPrompt.load(folder)


def test_newer_keys_warn_verify_and_survive(folder, tmp_path):
    def add(card):
        card["mood"] = {"cheer": 1}
        card["training"]["scores"]["val"]["p_value"] = 0.05

    identity = reseal(folder, add)
    with pytest.warns(UserWarning, match=r"training\.scores\.val\.p_value") as caught:
        loaded = SoftPrompt.load(folder)
    assert "mood" in str(caught[0].message)
    assert loaded.id == identity
    copy = loaded.save(tmp_path / "copy")
    assert json.loads((copy / "prompt.json").read_text())["mood"] == {"cheer": 1}
    with pytest.warns(UserWarning, match="newer"):
        assert SoftPrompt.load(copy) == loaded
    edit_card(folder, lambda card: card["mood"].update(cheer=2))
    with pytest.warns(UserWarning, match="newer"), pytest.raises(PromptFileError, match="altered"):
        SoftPrompt.load(folder)


def test_keys_cannot_steer_a_terminal(folder):
    edit_card(folder, lambda card: card.update({"\x1b[2J": 1}))
    with pytest.warns(UserWarning, match="newer") as caught, pytest.raises(PromptFileError):
        SoftPrompt.load(folder)
    assert "\x1b" not in str(caught[0].message)


def test_wrong_type_is_named(folder):
    edit_card(folder, lambda card: card["prompt"].update(length="4"))
    with pytest.raises(PromptFileError, match=r"prompt\.length: Input should be a valid integer"):
        SoftPrompt.load(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format_version": NaN}', b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_card_that_is_not_json_is_refused(folder, content):
    (folder / "prompt.json").write_bytes(content)
    with pytest.raises(PromptFileError):
        SoftPrompt.load(folder)


@pytest.mark.parametrize("value", ["\ud800", 1e400, [[]] * 3])
def test_hostile_values_in_the_card_are_refused(folder, value):
    edit_card(folder, lambda card: card.update(licence=value))
    with pytest.raises(PromptFileError):
        SoftPrompt.load(folder)


def test_large_card_is_not_read(folder):
    with (folder / "prompt.json").open("ab") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(PromptFileError, match="larger than the 1048576"):
        SoftPrompt.load(folder)


def test_large_tensor_file_is_not_read(folder):
    with (folder / "prompt.safetensors").open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(PromptFileError, match="larger than the"):
        SoftPrompt.load(folder)


@pytest.mark.parametrize("shape", [[1 << 40, 1 << 40], [10**999]])
def test_announced_size_is_bounded(folder, shape):
    edit_card(folder, lambda card: card["tensors"]["prompt"].update(shape=shape))
    with pytest.raises(PromptFileError, match="announces"):
        SoftPrompt.load(folder)


@pytest.mark.parametrize("length", [2**63, 2**20 + 1, 10**6])
def test_header_longer_than_the_file_is_refused(folder, length):
    path = folder / "prompt.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(PromptFileError, match="truncated"):
        SoftPrompt.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["prompt"].update(data_offsets=[0, 1 << 60]),
        lambda header: header["prompt"].update(data_offsets=[-4, 508]),
        lambda header: header["prompt"].update(data_offsets=header["head.weight"]["data_offsets"]),
        lambda header: header["prompt"].update(shape=[1 << 62, 4, 1 << 62]),
        lambda header: header["prompt"].update(dtype="I4"),
        lambda header: header.update(prompt=[]),
        lambda header: header.update(__metadata__={"promptgraft": "[" * 100_000}),
        lambda header: header.update(__metadata__=None),
        lambda header: header.clear(),
    ],
)
def test_hostile_headers_are_refused(folder, change):
    path = folder / "prompt.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(PromptFileError):
        SoftPrompt.load(folder)


def test_other_dtypes_and_foreign_files_are_refused(folder):
    arrays = safetensors.numpy.load_file(folder / "prompt.safetensors")
    identity, _ = read_card(folder)
    safetensors.numpy.save_file(arrays, folder / "prompt.safetensors")
    with pytest.raises(PromptFileError, match="not written by promptgraft"):
        SoftPrompt.load(folder)
    arrays["prompt"] = arrays["prompt"].astype(np.float16)
    safetensors.numpy.save_file(arrays, folder / "prompt.safetensors", {"promptgraft": json.dumps({"id": identity})})
    with pytest.raises(PromptFileError, match="'prompt' is F16"):
        SoftPrompt.load(folder)
    del arrays["prompt"]
    safetensors.numpy.save_file(arrays, folder / "prompt.safetensors", {"promptgraft": json.dumps({"id": identity})})
    with pytest.raises(PromptFileError, match="'prompt' is in one only"):
        SoftPrompt.load(folder)


def test_links_out_of_the_folder_and_odd_files_are_refused(folder, tmp_path):
    outside = (folder / "prompt.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(PromptFileError, match=r"no file prompt\.json"):
        SoftPrompt.load(folder)
    (folder / "prompt.json").symlink_to(outside)
    with pytest.raises(PromptFileError, match="link to a file outside"):
        SoftPrompt.load(folder)
    (folder / "prompt.json").unlink()
    os.mkfifo(folder / "prompt.json")  # would block for ever if it were opened
    with pytest.raises(PromptFileError, match="no regular file"):
        SoftPrompt.load(folder)
    with pytest.raises(PromptFileError, match="not a prompt folder"):
        SoftPrompt.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["prompt.json", "prompt.safetensors"])
def test_every_damage_is_found_or_harmless(folder, name):
    path, identity = folder / name, SoftPrompt.load(folder).id
    whole, chance, refused = path.read_bytes(), random.Random(0), 0
    for trial in range(200):
        data = bytearray(whole)
        if trial % 4 == 0:
            del data[chance.randrange(len(data)) :]
        else:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert SoftPrompt.load(folder).id == identity
        except PromptFileError:
            refused += 1
    assert refused > 150


# the README


def test_readme_tells_and_escapes(make_prompt):
    prompt = make_prompt(name="<script>x</script>|`a`\n# b\x1b[31m", parents=("a" * 64,), command="promptgraft tune")
    text = prompt_readme(prompt.card, prompt.id)
    title = text.splitlines()[0]
    assert title == r"# &lt;script&gt;x&lt;/script&gt;\|\`a\` \# b?\[31m"
    assert "\x1b" not in text
    for part in (
        "0.750 (95 % interval 0.500 to 0.900, n = 16)",
        "CC0-1.0",
        "a" * 64,
        prompt.id,
        "2 s on cpu",
    ):
        assert part.replace("(", r"\(").replace(")", r"\)") in text
    assert 'pg.load_backbone("tiny")' in text
