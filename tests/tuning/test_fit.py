import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from promptgraft.backbones.transformer import weights_sha256
from promptgraft.errors import InputError, TrainingError
from promptgraft.initialization.random import random_prompt
from promptgraft.tasks.embedded import embed_task
from promptgraft.tuning.fit import Trainer, predict_logits
from promptgraft.tuning.prompted import Head, LearnedPrompt, PromptedModel, PromptModule
from tuning.samples import FAST, make_backbone, make_task

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


def recipe(**changes):
    return FAST.model_copy(update={"epochs": 4, **changes})


def start(chosen=None, *, modality="vision", checkpoint=None, seed=0, val=True, head_scale=1.0, **options):
    """A trainer of a deep prompt, made anew: nothing is shared with another one."""
    backbone = make_backbone("vit" if modality == "vision" else "bert")
    data = embed_task(backbone, make_task(modality))
    generator = torch.Generator().manual_seed(seed)
    head = Head(torch.zeros(32), torch.ones(32), torch.randn(3, 32, generator=generator) * 0.1, torch.zeros(3))
    prompt = LearnedPrompt(random_prompt(backbone.info, 3, "deep", seed))
    model = PromptedModel(backbone, prompt, head)
    return Trainer(
        model, data.train, data.val if val else None, chosen or recipe(), seed=seed, checkpoint=checkpoint, **options
    )


def outcome(trainer):
    """All that a run leaves but its seconds."""
    lines = [replace(line, seconds=0) for line in trainer.history]
    trainer.keep()
    return trainer.model.state_dict(), lines, trainer.best_epoch, trainer.kept_epoch, trainer.epoch


def assert_same(ours, theirs):
    assert ours[1:] == theirs[1:]
    assert ours[0].keys() == theirs[0].keys()
    for name, value in ours[0].items():
        assert torch.equal(value, theirs[0][name]), name


@pytest.mark.parametrize("modality", ["vision", "text"])
def test_repeats_to_the_bit(modality):
    runs = []
    for _ in range(2):
        torch.rand(5)  # whatever else drew random numbers
        trainer = start(modality=modality)
        trainer.run()
        runs.append(outcome(trainer))
    assert_same(*runs)
    other = start(modality=modality, seed=1)
    other.run()
    assert not torch.equal(outcome(other)[0]["prompt.prompt"], runs[0][0]["prompt.prompt"])


def test_leaves_the_global_random_state_alone():
    trainer = start(recipe(epochs=1))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trainer.run()
    assert torch.equal(torch.rand(3), expected)


def test_learns():
    trainer = start(recipe(epochs=15))
    trainer.run()
    assert trainer.history[-1].train_loss < trainer.history[1].train_loss / 2
    trainer.keep()
    rights = predict_logits(trainer.model, trainer.train).argmax(1) == trainer.train.labels
    assert rights.double().mean() > 0.9


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_resumes_after_any_epoch_to_the_same_bits(optimizer, keep, tmp_path):
    chosen = recipe(optimizer=optimizer, keep=keep, lr=0.5)
    whole = start(chosen)
    whole.run()
    expected = outcome(whole)
    for stop in range(1, chosen.epochs + 1):
        path = tmp_path / f"{stop}.safetensors"
        start(chosen, checkpoint=path).run(until=stop)
        assert path.exists()
        again = start(chosen, checkpoint=path)
        assert again.epoch == stop
        again.run()
        assert_same(outcome(again), expected)


def test_resumes_without_a_selection_split(tmp_path):
    whole = start(val=False)
    whole.run()
    start(val=False, checkpoint=tmp_path / "run").run(until=2)
    again = start(val=False, checkpoint=tmp_path / "run")
    again.run()
    assert_same(outcome(again), outcome(whole))
    assert again.kept_epoch == again.epoch == 4


def test_an_interruption_in_the_middle_of_an_epoch_costs_nothing(tmp_path, monkeypatch):
    whole = start()
    whole.run()
    path = tmp_path / "run"
    broken = start(checkpoint=path)
    step, steps = broken._optimizer.step, []

    def interrupted(*args, **options):
        steps.append(1)
        if len(steps) == 5:  # three steps make an epoch
            raise KeyboardInterrupt
        return step(*args, **options)

    monkeypatch.setattr(broken._optimizer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    again = start(checkpoint=path)
    assert again.epoch == 1
    again.run()
    assert_same(outcome(again), outcome(whole))


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from tuning.test_fit import start, recipe
trainer = start(recipe(epochs=400), checkpoint=Path({path!r}))
print("started", flush=True)
trainer.run(on_epoch=lambda line: print(line.epoch, flush=True))
"""


def test_a_killed_process_is_resumed(tmp_path):
    path = tmp_path / "run.safetensors"
    script = CHILD.format(tests=str(Path(__file__).parents[1]), path=str(path))
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in this process: sums depend on the number of threads
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=one_thread)
    for line in child.stdout:
        if line.strip().isdigit() and int(line) >= 3:
            os.kill(child.pid, signal.SIGKILL)
            break
    child.wait(timeout=30)
    assert child.returncode == -signal.SIGKILL
    again = start(recipe(epochs=400), checkpoint=path)
    assert 3 <= again.epoch < 400
    until = again.epoch + 2
    again.run(until)
    whole = start(recipe(epochs=400))
    whole.run(until)
    assert_same(outcome(again), outcome(whole))
    assert {file.name for file in tmp_path.iterdir() if file.name.startswith("run")} == {"run.safetensors"}


@pytest.mark.parametrize(
    "other",
    [
        {"chosen": recipe(lr=0.01)},
        {"seed": 1},
        {"val": False},
        {"modality": "text"},
        {"key": "another method"},
    ],
    ids=str,
)
def test_the_checkpoint_of_another_run_is_refused(other, tmp_path):
    path = tmp_path / "run"
    start(checkpoint=path).run(until=1)
    before = path.read_bytes()
    with pytest.raises(InputError, match="another run"):
        start(checkpoint=path, **other)
    assert path.read_bytes() == before


def test_other_labels_and_other_pooling_are_another_run(tmp_path):
    path = tmp_path / "run"
    trainer = start(checkpoint=path)
    trainer.run(until=1)
    model, train, val = trainer.model, trainer.train, trainer.val
    train.labels = (train.labels + 1) % 3
    with pytest.raises(InputError, match="another run"):
        Trainer(model, train, val, recipe(), checkpoint=path)
    train.labels = (train.labels + 2) % 3
    Trainer(model, train, val, recipe(), checkpoint=path)
    model.backbone.pool = "mean"
    del model.backbone.__dict__["info"]
    with pytest.raises(InputError, match="another run"):
        Trainer(model, train, val, recipe(), checkpoint=path)


@pytest.mark.parametrize("left", [0, 3, 40, 0.5, -1])
def test_a_cut_checkpoint_is_named(left, tmp_path):
    path = tmp_path / "run"
    start(checkpoint=path).run(until=1)
    data = path.read_bytes()
    path.write_bytes(data[: int(left * len(data)) if isinstance(left, float) else left])
    with pytest.raises(InputError, match=r"checkpoint .*run is damaged"):
        start(checkpoint=path)


def test_a_checkpoint_that_is_something_else_is_named(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    text = tmp_path / "text"
    text.write_text(json.dumps({"not": "a checkpoint"}) * 100)
    for path in (folder, text):
        with pytest.raises(InputError, match="damaged"):
            start(checkpoint=path)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_divergence_names_the_epoch_and_the_rate(optimizer, tmp_path):
    path = tmp_path / "run"
    trainer = start(recipe(optimizer=optimizer, lr=1e30, head_lr=1e30), checkpoint=path)
    with pytest.raises(TrainingError, match=r"epoch \d .*lr=1e\+30"):
        trainer.run()
    if path.exists():  # what was written before is sound
        assert all(value.isfinite().all() for value in start(trainer.recipe, checkpoint=path).model.parameters())


def test_a_last_step_that_diverges_is_noticed():
    trainer = start(recipe(epochs=1, keep="last", batch_size=64, warmup=0), val=False)  # one step in all
    trainer.model.prompt.prompt.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(TrainingError, match="epoch 1"):
        trainer.run()


def test_nan_features_are_noticed():
    trainer = start()
    trainer.model.prompt.prompt.data[0, 0, 0] = torch.nan
    with pytest.raises(TrainingError, match="loss became nan in epoch 1"):
        trainer.run()


def test_keeps_the_best_or_the_last():
    best, last = (start(recipe(lr=2.0, head_lr=0.5, keep=keep, epochs=6)) for keep in ("best", "last"))
    for trainer in (best, last):
        trainer.run()
    lines = best.history
    ranks = [(line.val_accuracy, -line.val_loss) for line in lines]
    assert best.best_epoch == ranks.index(max(ranks))
    assert best.best_epoch < 6, "the recipe of this test must overshoot"
    assert (best.kept_epoch, last.kept_epoch) == (best.best_epoch, 6)
    for trainer in (best, last):
        trainer.keep()
        kept = trainer.history[trainer.kept_epoch]
        loss = F.cross_entropy(predict_logits(trainer.model, trainer.val), trainer.val.labels).item()
        assert loss == kept.val_loss
    assert not torch.equal(best.model.prompt.prompt, last.model.prompt.prompt)


def test_stops_when_patience_runs_out(tmp_path):
    chosen = recipe(lr=2.0, head_lr=0.5, epochs=50, patience=2)
    trainer = start(chosen, checkpoint=tmp_path / "run")
    trainer.run()
    assert trainer.epoch == trainer.best_epoch + 2 < 50
    again = start(chosen, checkpoint=tmp_path / "run")
    assert again.finished
    again.run()
    assert again.epoch == trainer.epoch


def test_the_first_line_is_the_start():
    trainer = start()
    first = trainer.history[0]
    logits = predict_logits(trainer.model, trainer.val)
    assert (first.epoch, first.train_loss) == (0, None)
    assert first.val_loss == F.cross_entropy(logits, trainer.val.labels).item()
    assert first.val_accuracy == (logits.argmax(1) == trainer.val.labels).double().mean()
    trainer.run()
    assert [line.epoch for line in trainer.history] == [0, 1, 2, 3, 4]
    assert trainer.seconds == sum(line.seconds for line in trainer.history) > 0


def test_the_backbone_stays_as_it_was():
    trainer = start(recipe(lr=1.0, weight_decay=0.1))
    model = trainer.model.backbone.model
    before = weights_sha256(model)
    trainer.run()
    assert weights_sha256(model) == before
    assert not model.training
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    assert {name for name, _ in trainer.model.named_parameters()} == {"prompt.prompt", "head.weight", "head.bias"}


def test_every_epoch_sees_every_example_once_in_its_own_order():
    trainer = start()
    seen, tokens = [], trainer.train.tokens
    trainer.train.tokens = lambda index: seen.extend(index.tolist()) or tokens(index)
    trainer.run()
    epochs = [tuple(seen[i : i + 20]) for i in range(0, 80, 20)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len(set(epochs)) == 4


def rates(trainer):
    """The learning rates (prompt, head) of every step."""
    seen, step = [], trainer._optimizer.step

    def watched(*args, **options):
        groups = trainer._optimizer.param_groups
        seen.append((groups[0]["lr"], groups[-1]["lr"]))
        return step(*args, **options)

    trainer._optimizer.step = watched
    trainer.run()
    return torch.tensor(seen, dtype=torch.float64)


def test_warm_up_then_cosine():
    found = rates(start(recipe(lr=0.4, head_lr=0.1, epochs=4, warmup=1.0, batch_size=5)))  # four steps an epoch
    at = torch.arange(16, dtype=torch.float64) / 4
    rising = (at + 0.01) / 1.01
    falling = 0.5 * (1 + torch.cos(math.pi * (at - 1) / 3))
    expected = torch.where(at < 1, rising, falling)
    torch.testing.assert_close(found, expected[:, None] * torch.tensor([0.4, 0.1], dtype=torch.float64))
    assert found[:, 0].argmax() == 4
    assert found[4, 0] == 0.4


def test_constant_schedule_and_a_warm_up_longer_than_the_run():
    assert (rates(start(recipe(lr=0.4, schedule="constant", warmup=0.0)))[:, 0] == 0.4).all()
    found = rates(start(recipe(lr=0.4, epochs=2, warmup=10)))[:, 0]
    assert found.max() == pytest.approx(0.4)  # warm-up takes half of the run at most
    assert found[-1] < 0.4


def test_class_balance_and_smoothing_weigh_the_examples():
    chosen = recipe(class_balanced=True, label_smoothing=0.1, epochs=1, batch_size=64)
    trainer = start(chosen)
    with torch.no_grad():
        logits = trainer.model(trainer.train.tokens(torch.arange(20)))
    labels = trainer.train.labels
    target = F.one_hot(labels, 3) * 0.9 + 0.1 / 3
    losses = -(target * logits.log_softmax(1)).sum(1)
    expected = torch.stack([losses[labels == c].mean() for c in range(3)]).mean()
    trainer.run()
    assert trainer.history[1].train_loss == pytest.approx(expected.item(), rel=1e-5)


def test_weight_decay_spares_the_biases():
    trainer = start(recipe(weight_decay=0.25))
    decays = {id(p): group["weight_decay"] for group in trainer._optimizer.param_groups for p in group["params"]}
    model = trainer.model
    assert [decays[id(p)] for p in (model.prompt.prompt, model.head.weight, model.head.bias)] == [0.25, 0.25, 0.0]


class Dropping(PromptModule):
    """A prompt with dropout: only training may be random."""

    def __init__(self, start):
        super().__init__()
        self.prompt, self.dropout = torch.nn.Parameter(start), torch.nn.Dropout(0.5)

    def forward(self, tokens):
        return self.dropout(self.prompt)


def test_dropout_is_repeatable_and_off_in_evaluation():
    runs = []
    for _ in range(2):
        first = start()
        module = Dropping(first.model.prompt.prompt.detach().clone())
        trainer = Trainer(
            PromptedModel(first.model.backbone, module, first.model.head), first.train, first.val, recipe()
        )
        assert torch.equal(predict_logits(trainer.model, trainer.val), predict_logits(trainer.model, trainer.val))
        trainer.run()
        runs.append(outcome(trainer))
        assert not module.training
    assert_same(*runs)


def test_seconds_add_up_over_sittings(tmp_path):
    path = tmp_path / "run"
    first = start(checkpoint=path)
    first.run(until=2)
    again = start(checkpoint=path)
    assert again.seconds == first.seconds
    time.sleep(0)
    again.run()
    assert again.seconds > first.seconds
