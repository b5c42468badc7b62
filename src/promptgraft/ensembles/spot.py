"""SPoT's retrieval: of several sources the one nearest to the target starts its prompt (Vu et al. 2022)."""

from promptgraft.ensembles.aligned import aligned
from promptgraft.ensembles.nearest import chosen_one, similarities
from promptgraft.transfer.sources import fits_shallow
from promptgraft.tuning.method import Method, Setting
from promptgraft.tuning.prompted import LearnedPrompt, PromptModule


def _build(setting: Setting) -> PromptModule:
    """The best of the top k at k = 1: the source of the largest cosine of mean rows; of equals the first.

    The paper's target prompt is an early checkpoint (10,000 steps); here it is one of 5 epochs, 20 rows.
    """
    prompts = aligned(setting, "spot")
    near = similarities(setting, prompts)
    return LearnedPrompt(prompts[int(near.argmax())], chosen_one(setting, near))


spot = Method(
    name="spot",
    summary="of several source prompts the one nearest to the target's own starts the target prompt",
    paper="https://arxiv.org/abs/2110.07904",
    sources="several",
    start="nearest source",
    build=_build,
    fits=fits_shallow("spot"),
)
