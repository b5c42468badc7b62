import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from promptgraft.errors import InputError
from promptgraft.tasks.arrays import task_from_arrays
from promptgraft.tasks.embedded import embed_inputs, embed_task, join
from tuning.samples import Refusing, make_backbone, make_task

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


def refusing(task):
    """The same task with inputs that cannot be read."""
    splits = {name: getattr(task, name) for name in ("train", "val", "test")}
    return replace(task, **{name: replace(s, inputs=Refusing(s.inputs)) for name, s in splits.items()})


def files(own_cache):
    return sorted((own_cache / "tokens").glob("*"))


def everything(split):
    return split.tokens(torch.arange(len(split)))


@pytest.mark.parametrize("family", ["vit", "dinov2_with_registers", "clip_vision_model"])
def test_image_tokens_are_those_of_the_backbone(family):
    backbone = make_backbone(family)
    task = make_task(sizes={"train": 70, "val": 5, "test": 4})
    data = embed_task(backbone, task)
    for name in ("train", "val", "test"):
        split, raw = getattr(data, name), getattr(task, name)
        expected = backbone.embed(list(raw.inputs)).values
        torch.testing.assert_close(everything(split).values, expected)
        assert torch.equal(everything(split).values, torch.cat([tokens.values for tokens in split.batches()]))
        assert split.labels.tolist() == raw.labels.tolist()
        assert len(split) == len(raw)
    index = torch.tensor([69, 3, 3, 64])
    assert torch.equal(data.train.tokens(index).values, everything(data.train).values[index])
    assert data.train.tokens(index).mask is None


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_text_tokens_are_those_of_the_backbone(family):
    backbone, task = make_backbone(family), make_task("text")
    split = embed_task(backbone, task).train
    index = torch.tensor([7, 2, 2, 19])
    tokens = split.tokens(index)
    expected = backbone.embed([task.train.inputs[i] for i in index.tolist()])
    assert torch.equal(tokens.mask, expected.mask)
    assert torch.equal(tokens.values[tokens.mask], expected.values[expected.mask])
    torch.testing.assert_close(backbone.run(tokens), backbone.run(expected))


def test_texts_are_padded_to_the_longest_of_their_batch_only():
    backbone, task = make_backbone("bert"), make_task("text")
    split = embed_task(backbone, task).train
    lengths = torch.tensor([len(text.split()) + 2 for text in task.train.inputs])
    for i, length in enumerate(lengths.tolist()):
        assert split.tokens(torch.tensor([i])).values.shape[1] == length
    assert torch.equal(everything(split).mask.sum(1), lengths)


def test_the_second_time_nothing_is_decoded(own_cache):
    task = make_task()
    first = embed_task(make_backbone(), task)
    before = [path.stat().st_mtime_ns for path in files(own_cache)]
    again = embed_task(make_backbone(), refusing(task))
    assert torch.equal(everything(first.train).values, everything(again.train).values)
    assert [path.stat().st_mtime_ns for path in files(own_cache)] == before
    assert len(before) == 3


def test_only_the_missing_split_is_embedded(own_cache):
    task = make_task()
    keys = embed_task(make_backbone(), task)
    (own_cache / "tokens" / f"{keys.val.key}.npy").unlink()
    part = refusing(task)
    embed_task(make_backbone(), replace(part, val=task.val))


@pytest.mark.parametrize(
    "other",
    [
        {"backbone": {"seed": 1}},
        {"backbone": {"image_size": 64}},
        {"backbone": {"family": "deit"}},
        {"backbone": {"dtype": torch.float64}},
        {"backbone": {"dtype": torch.bfloat16}},
        {"task": {"seed": 1}},
    ],
    ids=str,
)
def test_whatever_changes_the_tokens_changes_the_key(other, own_cache):
    first = embed_task(make_backbone(), make_task())
    second = embed_task(make_backbone(**other.get("backbone", {})), make_task(**other.get("task", {})))
    keys = {getattr(data, name).key for data in (first, second) for name in ("train", "val", "test")}
    assert len(keys) == len(files(own_cache)) == 6
    assert embed_task(make_backbone(), make_task()).train.key == first.train.key


def test_versions_and_devices_are_part_of_the_key(monkeypatch):
    first = embed_task(make_backbone(), make_task()).train.key
    monkeypatch.setattr("promptgraft.tasks.embedded.version", lambda name: "0")
    second = embed_task(make_backbone(), make_task()).train.key
    backbone = make_backbone()
    monkeypatch.setattr(backbone, "device", torch.device("cpu"))
    assert embed_task(backbone, make_task()).train.key == second != first

    class Elsewhere(type(backbone)):
        device = property(lambda self: torch.device("cuda"), lambda self, value: None)

    backbone.__class__ = Elsewhere
    monkeypatch.setattr(Elsewhere, "embed", lambda self, batch: make_backbone().embed(batch))
    assert embed_task(backbone, make_task()).train.key not in (first, second)


def test_pooling_and_class_names_are_no_part_of_it(own_cache):
    task = make_task()
    first = embed_task(make_backbone(), task)
    again = embed_task(make_backbone(pool="mean"), replace(refusing(task), name="other"))
    assert first.train.key == again.train.key


@pytest.mark.parametrize(
    ("backbone", "text"),
    [({"seed": 1}, None), ({"max_length": 5}, None), ({"dtype": torch.float64}, None), ({}, "w5 w6")],
    ids=str,
)
def test_text_keys_follow_what_the_tokenizer_gave(backbone, text):
    task = make_task("text")
    first = embed_task(make_backbone("bert"), task).train.key
    assert embed_task(make_backbone("bert"), replace(task, fingerprint="0" * 64)).train.key == first
    if text is not None:
        inputs = [*task.train.inputs[:-1], text]
        task = replace(task, train=replace(task.train, inputs=inputs))
    assert embed_task(make_backbone("bert", **backbone), task).train.key != first


def test_another_tokenizer_over_equal_weights_is_another_key():
    task, backbone = make_task("text"), make_backbone("bert")
    first = embed_task(backbone, task)
    prepare = backbone._prepare
    backbone._prepare = lambda inputs: prepare([text.replace("w1", "w2") for text in inputs])
    assert embed_task(backbone, task).train.key != first.train.key


def test_the_same_images_in_another_order_are_not_mixed_up():
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 255, (40, 32, 32, 3), dtype=np.uint8), np.arange(40) % 2
    backbone = make_backbone()
    for order in (np.arange(40), np.arange(40)[::-1], random.permutation(40)):
        task = task_from_arrays(images[order], labels[order], n_val=0, n_test=0)
        split = embed_task(backbone, task).train
        torch.testing.assert_close(everything(split).values, backbone.embed(list(task.train.inputs)).values)
        assert split.labels.tolist() == task.train.labels.tolist()


@pytest.mark.parametrize("modality", ["vision", "text"])
def test_joined_splits_are_one_after_another(modality):
    backbone, task = make_backbone("vit" if modality == "vision" else "bert"), make_task(modality)
    data = embed_task(backbone, task)
    both = join(data.train, data.val, data.test)
    inputs = [*task.train.inputs, *task.val.inputs, *task.test.inputs]
    assert len(both) == len(inputs) == 40
    assert both.labels.tolist() == [*task.train.labels, *task.val.labels, *task.test.labels]
    for index in (torch.arange(40), torch.tensor([39, 0, 20, 19, 30, 31, 31]), torch.tensor([25, 24])):
        tokens, expected = both.tokens(index), backbone.embed([inputs[i] for i in index.tolist()])
        assert tokens.values.shape == expected.values.shape  # padded to the longest of all parts, no further
        if modality == "vision":
            assert tokens.mask is None
            torch.testing.assert_close(tokens.values, expected.values)
        else:
            assert torch.equal(tokens.mask, expected.mask)
            assert torch.equal(tokens.values[tokens.mask], expected.values[expected.mask])
            torch.testing.assert_close(backbone.run(tokens), backbone.run(expected))
    keys = {both.key, join(data.val, data.train).key, join(data.train, data.val).key, data.train.key}
    assert len(keys) == 4
    assert join(data.train, data.val).key == join(data.train, data.val).key


def test_joining_with_an_empty_split():
    task = make_task(sizes={"train": 6, "val": 0, "test": 3})
    data = embed_task(make_backbone(), task)
    for parts in ((data.val, data.train), (data.train, data.val), (data.train, data.val, data.test)):
        both = join(*parts)
        expected = torch.cat([everything(part).values for part in parts if len(part)])
        assert torch.equal(everything(both).values, expected)


@pytest.mark.parametrize("modality", ["vision", "text"])
def test_empty_splits(modality, own_cache):
    backbone = make_backbone("vit" if modality == "vision" else "bert")
    data = embed_task(backbone, make_task(modality, sizes={"train": 6, "val": 0, "test": 0}))
    assert (len(data.train), len(data.val), len(data.test)) == (6, 0, 0)
    assert list(data.val.batches()) == []


@pytest.mark.parametrize("left", [0, 5, 60, 200, -1])
def test_a_cut_file_is_made_anew(left, own_cache):
    task, backbone = make_task(), make_backbone()
    data = embed_task(backbone, task)
    expected = everything(data.train).values
    path = own_cache / "tokens" / f"{data.train.key}.npy"
    whole = path.read_bytes()
    path.unlink()  # the first reader keeps its own
    path.write_bytes(whole[:left])
    assert torch.equal(everything(embed_task(backbone, task).train).values, expected)
    assert path.read_bytes() == whole


LIMITED = """
import resource, signal, sys
sys.path[:0] = [{tests!r}]
from promptgraft.errors import InputError
from promptgraft.tasks.embedded import embed_task
from tuning.samples import make_backbone, make_task
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # the tokens of 70 images take more
try:
    embed_task(make_backbone(), make_task(sizes={{"train": 70, "val": 3, "test": 3}}))
except InputError as error:
    print("refused:", error)
"""


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(own_cache):
    script = LIMITED.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "refused: cannot cache image tokens in" in done.stdout
    assert "Free some space or set PROMPTGRAFT_CACHE" in done.stdout
    assert files(own_cache) == []


def test_a_cache_that_cannot_be_written_is_named(own_cache):
    own_cache.write_text("a file where a folder should be")
    with pytest.raises(InputError, match="cannot cache image tokens"):
        embed_task(make_backbone(), make_task())


def test_an_image_that_cannot_be_read_is_not_blamed_on_the_cache(own_cache):
    task = make_task()

    class Broken(list):
        def __getitem__(self, index):
            raise FileNotFoundError(2, "gone", "photo.png")

    with pytest.raises(FileNotFoundError, match=r"photo\.png"):
        embed_task(make_backbone(), replace(task, val=replace(task.val, inputs=Broken(task.val.inputs))))
    assert len(files(own_cache)) == 1  # train was whole


def test_an_interruption_leaves_nothing(own_cache):
    task = make_task()

    class Interrupted(list):
        def __getitem__(self, index):
            if index == 15:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        embed_task(make_backbone(), replace(task, train=replace(task.train, inputs=Interrupted(task.train.inputs))))
    assert files(own_cache) == []


def test_two_writers_at_once(own_cache):
    backbone, task = make_backbone(), make_task(sizes={"train": 130, "val": 5, "test": 5})
    found, barrier = [], threading.Barrier(4)

    def write():
        torch.manual_seed(0)  # names of temporary files must not follow from a seed
        barrier.wait()
        found.append(everything(embed_task(backbone, task).train).values)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    expected = backbone.embed(list(task.train.inputs)).values
    for values in found:
        torch.testing.assert_close(values, expected)
    assert len(files(own_cache)) == 3


def test_the_global_random_state_is_left_alone():
    backbone, task = make_backbone(), make_task()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    embed_task(backbone, task)
    assert torch.equal(torch.rand(3), expected)


def test_loose_inputs_in_chunks():
    backbone, task = make_backbone(), make_task(sizes={"train": 70, "val": 1, "test": 1})
    chunks = list(embed_inputs(backbone, task.train.inputs))
    assert [len(chunk) for chunk in chunks] == [64, 6]
    torch.testing.assert_close(
        torch.cat([chunk.values for chunk in chunks]), everything(embed_task(backbone, task).train).values
    )


def test_file_permissions_follow_the_umask(own_cache):
    old = os.umask(0o022)
    try:
        embed_task(make_backbone(), make_task())
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in files(own_cache)} == {0o644}
