"""What a watch of several sources sees: features under each, under the start and under what was tuned."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ensembles.several import own_source, setting_of  # type: ignore[import-not-found]
from promptgraft.analysis import SourceWatch
from promptgraft.analysis import sources as module
from promptgraft.analysis.sources import feature_map, neighbour_share
from promptgraft.errors import InputError
from promptgraft.tuning.fit import Trainer
from promptgraft.tuning.method import METHODS
from promptgraft.tuning.tune import transfer
from tuning.samples import FAST, make_backbone, make_source, make_task  # type: ignore[import-not-found]

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


@pytest.fixture(scope="module")
def backbone() -> Any:
    return make_backbone()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The features of each map, in their order."""
    found: list[torch.Tensor] = []
    original = module.feature_map

    def keep(features: torch.Tensor, **rest: Any) -> Any:
        found.append(features)
        return original(features, **rest)

    monkeypatch.setattr(module, "feature_map", keep)
    return found


def watched(backbone: Any, sources: list[Any], method: str = "hgprompt", **options: Any) -> tuple[Any, dict[str, Any]]:
    watch = SourceWatch()
    adapted = transfer(sources, backbone, make_task(), method=method, recipe=FAST, on_epoch=watch, **options)
    return adapted, json.loads(json.dumps(watch.analysis(adapted), allow_nan=False))


def features_of(backbone: Any, split: Any, prompt: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([backbone.run(split.tokens(torch.tensor([i])), prompt) for i in range(len(split))])


def test_each_source_the_start_and_what_was_tuned(backbone: Any, seen: list[torch.Tensor]) -> None:
    sources = [own_source(backbone, seed=seed) for seed in range(3)]
    adapted, analysis = watched(backbone, sources)
    setting = setting_of(backbone, *sources, recipe=FAST)
    built = METHODS["hgprompt"].build(setting)
    prompts = [source.tensor for source in sources] + [built(None).detach(), adapted.prompt.tensor]
    for features, prompt in zip(seen, prompts, strict=True):
        torch.testing.assert_close(features, features_of(backbone, setting.train, prompt), rtol=1e-4, atol=1e-5)
    names = [source.card.name for source in sources]
    assert [each["name"] for each in analysis["maps"]] == [*names, "hgprompt, start", "hgprompt, tuned"]
    assert analysis["sources"] == names
    assert analysis["weights"] == pytest.approx(list(built.facts["weights"].values()))
    np.testing.assert_allclose(analysis["cosines"], built.facts["gradient_cosines"], atol=1e-6)
    assert (analysis["split"], analysis["labels"]) == ("training", setting.train.labels.tolist())  # 11 are too few
    for each, features in zip(analysis["maps"], seen, strict=True):
        assert each["neighbours"] == neighbour_share(features, setting.train.labels)
        assert np.shape(each["points"]) == (20, 2)


def test_validation_examples_where_there_are_enough(backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENOUGH", 11)
    monkeypatch.setattr(module, "MOST", 7)
    _, analysis = watched(backbone, [own_source(backbone, seed=seed) for seed in range(2)], "average")
    assert analysis["split"] == "validation"
    assert len(analysis["labels"]) == len(analysis["maps"][0]["points"]) == 7
    assert analysis["weights"] == [0.5, 0.5]
    assert analysis["cosines"] is None


def test_a_source_of_another_backbone_is_seen_as_projected(backbone: Any, seen: list[torch.Tensor]) -> None:
    from promptgraft.ensembles.aligned import aligned

    sources = [make_source(16), own_source(backbone)]
    _, analysis = watched(backbone, sources, "concatenation")
    setting = setting_of(backbone, *sources, recipe=FAST)
    rows = aligned(setting, "concatenation")[0]
    torch.testing.assert_close(seen[0], features_of(backbone, setting.train, rows), rtol=1e-4, atol=1e-5)
    assert analysis["weights"] is None


def test_a_prompt_of_each_input_has_maps_too(backbone: Any, seen: list[torch.Tensor]) -> None:
    adapted, analysis = watched(backbone, [own_source(backbone, seed=seed) for seed in range(2)], "attempt")
    train = setting_of(backbone).train
    with torch.no_grad():
        expected = torch.cat([adapted.edit.features(backbone, tokens) for tokens in train.batches()])
    torch.testing.assert_close(seen[-1], expected, rtol=1e-4, atol=1e-5)
    assert 0 < sum(analysis["weights"]) < 1


def test_watching_changes_nothing_and_survives_a_stop(
    backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [own_source(backbone, seed=seed) for seed in range(2)]
    plain: Any = transfer(sources, backbone, make_task(), method="hgprompt", recipe=FAST)
    adapted, whole = watched(backbone, sources)
    assert torch.equal(adapted.prompt.tensor, plain.prompt.tensor)
    epoch = Trainer._epoch

    def stop_in_the_second(trainer: Trainer) -> float:
        if trainer.epoch == 1:
            raise KeyboardInterrupt
        return epoch(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            watched(backbone, sources, checkpoint=tmp_path / "run.safetensors")
    _, resumed = watched(backbone, sources, checkpoint=tmp_path / "run.safetensors")
    assert resumed["maps"] == whole["maps"]
    assert (resumed["weights"], resumed["cosines"]) == (whole["weights"], whole["cosines"])


def test_neighbours_by_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(40, 3, generator=generator), torch.randint(3, (40,), generator=generator)
    right = 0
    for i in range(40):
        distances = {j: float((features[i] - features[j]).norm()) for j in range(40) if j != i}
        right += int(labels[min(distances, key=distances.__getitem__)] == labels[i])
    assert neighbour_share(features, labels) == right / 40
    assert neighbour_share(torch.tensor([[0.0], [0.1], [5.0], [5.1]]), torch.tensor([0, 0, 1, 1])) == 1.0


def test_far_clusters_stay_apart_on_the_map_and_few_points_have_one() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    points = feature_map(torch.randn(40, 5, generator=generator) + 50 * labels[:, None], seed=1)
    assert points.min() == 0
    assert points.max() == 1
    assert neighbour_share(torch.from_numpy(points), labels) == 1.0
    assert feature_map(torch.randn(3, 5, generator=generator)).shape == (3, 2)


def test_a_method_of_one_source_is_refused(backbone: Any) -> None:
    with pytest.raises(InputError, match=r"several source prompts, and method 'initial' takes one\. Choose one"):
        transfer(own_source(backbone), backbone, make_task(), recipe=FAST, on_epoch=SourceWatch())
