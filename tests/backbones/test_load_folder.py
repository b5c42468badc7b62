from pathlib import Path

import pytest
import transformers
from safetensors.torch import load_file, save_file

from promptgraft.backbones.load import load_backbone
from promptgraft.errors import InputError


def test_a_folder_without_a_pooler_loads_the_same_weights_each_time(
    tiny_vit_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = (load_backbone(f"dir:{tiny_vit_folder}") for _ in range(2))
    assert first.info == second.info
    assert capfd.readouterr() == ("", "")  # neither a bar nor a report


def test_a_folder_that_lacks_weights_is_refused(tiny_vit_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_vit_folder / "config.json").read_bytes())
    weights = load_file(tiny_vit_folder / "model.safetensors")
    lost = next(name for name in weights if name.endswith("layernorm_after.weight"))
    del weights[lost]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"comes without the weights .*layernorm_after\.weight"):
        load_backbone(f"dir:{tmp_path}")


@pytest.mark.parametrize("asked", [None, "main"])
def test_a_hub_model_is_remembered_by_its_commit(tiny_vit_folder, monkeypatch, asked):
    real = transformers.AutoConfig.from_pretrained

    def from_hub(*arguments, **options):
        config = real(*arguments, **options)
        if not isinstance(config, tuple):  # transformers asks again for itself, with the unused options
            config._commit_hash = "c0ffee"
        return config

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", from_hub)
    assert load_backbone(f"hf/{tiny_vit_folder}", revision=asked).info.revision == "c0ffee"
