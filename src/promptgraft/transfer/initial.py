"""A source prompt starts the target prompt (SPoT, Vu et al. 2022)."""

from promptgraft.transfer.sources import fitting_source
from promptgraft.tuning.method import Method
from promptgraft.tuning.prompted import LearnedPrompt

initial = Method(
    name="initial",
    summary="the source prompt starts the target prompt, then all of it is tuned",
    paper="https://arxiv.org/abs/2110.07904",
    sources="one",
    start="source",
    build=lambda setting: LearnedPrompt(fitting_source(setting)),
)
