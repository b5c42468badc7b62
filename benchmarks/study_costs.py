"""What the cross-modality paper's whole study costs: 13 sources x 19 targets x 5 seeds x 36 settings, ViT-B/16.

Times a few passes of ViT-B/16 (random weights: speed does not depend on them) at 224 pixels with 100 prompt rows on
the device at hand, and composes the study from them: 1,000 training images, 100 epochs, 200 images of validation per
epoch in the search, `--test` images of test once. A second column puts an accelerator of `--tflops` sustained
TFLOP/s in the device's place: that is arithmetic, not a measurement.

    python benchmarks/study_costs.py --device cpu --tflops 300
"""

import argparse
import time
from collections.abc import Callable

import torch
from transformers import ViTConfig, ViTModel

from promptgraft.backbones.base import Tokens
from promptgraft.backbones.load import load_backbone

SOURCES, TARGETS, SEEDS, SETTINGS, EPOCHS = 13, 19, 5, 36, 100
TRAIN, SEARCH_TRAIN, SEARCH_VAL = 1000, 800, 200
P, PATCHES, D, DEPTH = 100, 196, 768, 12
TPE_TRIALS, KEPT = 20, 0.86
"""A TPE search of 20 settings, and the share of the epochs that are left where those behind are stopped; measured by
`stopping.py` on other searches."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tflops", type=float, default=300.0, help="sustained, of the accelerator")
    parser.add_argument("--test", type=int, default=5000, help="test images of a target, on average")
    arguments = parser.parse_args()
    forward, step = measure(arguments.device, arguments.dtype, arguments.batch)
    own, other = (forward, step), (flops(False) / arguments.tflops / 1e12, flops(True) / arguments.tflops / 1e12)
    print(f"per image: forward {1000 * forward:.1f} ms, training step {1000 * step:.1f} ms on {arguments.device}")
    print(f"           {flops(False) / forward / 1e12:.2f} and {flops(True) / step / 1e12:.2f} TFLOP/s")
    print(f"{'':<52}{'device-hours':>14}{'accelerator-hours':>20}{'on 1':>10}{'on 8':>10}{'on 64':>10}")
    for name, work in studies(arguments.test).items():
        hours = [(images[0] * speed[0] + images[1] * speed[1]) / 3600 for speed in (own, other) for images in [work]]
        days = "".join(f"{_span(hours[1] / count):>10}" for count in (1, 8, 64))
        print(f"{name:<52}{hours[0]:>14,.0f}{hours[1]:>20,.1f}{days}")


def studies(test: int) -> dict[str, tuple[float, float]]:
    """Images through a forward pass, and through a training step, of each way to run the study."""
    pairs = SOURCES * TARGETS
    search = (SEARCH_VAL * EPOCHS, SEARCH_TRAIN * EPOCHS)
    final = (test, TRAIN * EPOCHS)
    per_seed = pairs * SEEDS
    return {
        "projection, grid of 36 for each seed": _sum(per_seed * SETTINGS, search, per_seed, final),
        "projection, grid of 36 once": _sum(pairs * SETTINGS, search, per_seed, final),
        f"projection, TPE of {TPE_TRIALS} once": _sum(pairs * TPE_TRIALS * KEPT, search, per_seed, final),
        "frozen, features computed again in every epoch": (
            per_seed * SETTINGS * EPOCHS * TRAIN + per_seed * (EPOCHS * TRAIN + test),
            0.0,
        ),
        "frozen, features computed once": (pairs * (TRAIN + test), 0.0),
    }


def measure(device: str, dtype: str, batch: int) -> tuple[float, float]:
    """Seconds per image of a forward pass and of a training step with a shallow prompt."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ViTModel(ViTConfig(), add_pooling_layer=False).save_pretrained(folder)
        backbone = load_backbone(f"dir:{folder}", image_size=224, device=device, dtype=dtype)
    tokens = Tokens(torch.randn(batch, PATCHES + 1, D, device=device))
    prompt = torch.randn(1, P, D, device=device, requires_grad=True)

    def forward() -> None:
        with torch.no_grad():
            backbone.run(tokens, prompt)

    def step() -> None:
        torch.autograd.backward(backbone.run(tokens, prompt).sum())

    return _time(forward, device) / batch, _time(step, device) / batch


def flops(training: bool) -> float:
    """Multiplications and additions of one image: projections and MLP of 12 blocks, and attention."""
    tokens = PATCHES + 1 + P
    forward = DEPTH * (2 * tokens * 12 * D**2 + 4 * tokens**2 * D)
    return forward * (2 if training else 1)  # the weights take no gradient: backward costs one more forward


def _time(act: Callable[[], None], device: str) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        act()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best


def _sum(times: float, work: tuple[float, float], more: float, last: tuple[float, float]) -> tuple[float, float]:
    return times * work[0] + more * last[0], times * work[1] + more * last[1]


def _span(hours: float) -> str:
    return f"{hours / 24:.1f} d" if hours >= 48 else f"{hours:.1f} h"


if __name__ == "__main__":
    main()
