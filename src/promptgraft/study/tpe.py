"""Optuna's TPE sampler as a chain of trials: each setting is drawn from the results of those before it.

The sampler's state is rebuilt from these results and its seed, so a chain that was stopped goes on to the same
settings, in any process and on any machine.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from promptgraft.files import content_key

STARTUP = 5
"""Settings drawn at random before the sampler models anything, and before any is stopped."""


class Chain:
    """The next setting of a search.

    Args:
        identity: `over` (field -> values, or low, high, log), `number` of this setting, `epochs` of the whole search
            (None for no limit), `stop_from` (the epoch at which a setting is stopped at the earliest), `seed`.
        earlier: results of the settings before it.
    """

    def __init__(self, identity: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> None:
        self._identity, self._earlier = identity, [result for result in earlier if result["setting"] is not None]

    @property
    def spent(self) -> bool:
        """Whether the earlier settings have used up the search's epochs."""
        limit = self._identity["epochs"]
        return (
            limit is not None and sum(len(result["curve"]) - 1 for result in self._earlier if result["curve"]) >= limit
        )

    @cached_property
    def setting(self) -> dict[str, Any]:
        """Field of a recipe -> value."""
        return dict(self._trial.params)

    def behind(self, epoch: int, value: float | None) -> bool:
        """Whether this setting is behind the median of the earlier ones at the same epoch."""
        if value is None:
            return False
        self._trial.report(value, epoch)
        return bool(self._trial.should_prune())

    @cached_property
    def _trial(self) -> Any:
        import optuna
        from optuna.trial import TrialState, create_trial

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # sorted as in the trial's key: draws follow the order of the fields
        space = {name: self._distribution(values) for name, values in sorted(self._identity["over"].items())}
        seed = int(content_key(self._identity["seed"], self._identity["number"])[:8], 16)
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP),
            pruner=optuna.pruners.MedianPruner(STARTUP, n_warmup_steps=self._identity["stop_from"]),
        )
        for result in self._earlier:
            study.add_trial(
                create_trial(
                    state=TrialState.PRUNED if result["stopped"] else TrialState.COMPLETE,
                    params=result["setting"],
                    distributions=space,
                    value=result["value"],
                    intermediate_values={line[0]: line[3] for line in result["curve"][1:]},
                )
            )
        return study.ask(space)

    @staticmethod
    def _distribution(values: Any) -> Any:
        import optuna

        if isinstance(values, Mapping):
            return optuna.distributions.FloatDistribution(**values)
        return optuna.distributions.CategoricalDistribution(tuple(values))
