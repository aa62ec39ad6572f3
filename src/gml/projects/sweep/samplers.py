"""Where a sweep looks next. Random and grid need nothing; tpe needs optuna (`gitml[sweep]`)."""

from __future__ import annotations

import logging
from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol

from gml.domain.errors import MissingPackageError, UsageError
from gml.projects.sweep.space import Choice, Dimension, grid_size

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLERS: Final = ("tpe", "random", "grid")


class Sampler(Protocol):
    """Chooses values for trials and hears how they did."""

    def ask(self, number: int) -> dict[str, str]:
        """Return the values of a trial."""

    def tell(self, number: int, values: Mapping[str, str], result: float | None) -> None:
        """Take the result of a trial into account; None where it has none (failed or pruned)."""


def make_sampler(name: str, space: Mapping[str, Dimension], seed: int, *, maximize: bool) -> Sampler:
    """Return a sampler by name.

    Raises:
        MissingPackageError: it needs optuna.
        UsageError: there is none of this name, or a grid of this space is infinite.
    """
    if name == "random":
        return RandomSampler(space, seed)
    if name == "grid":
        return GridSampler(space)
    if name == "tpe":
        return TpeSampler(space, seed, maximize=maximize)
    raise UsageError(f"there is no sampler {name!r}", hint=f"use one of {', '.join(SAMPLERS)}")


def default_sampler() -> str:
    """Return `tpe` where optuna is installed, else `random`."""
    from importlib.util import find_spec

    return "tpe" if find_spec("optuna") is not None else "random"


class RandomSampler:
    """Independent draws: a trial's values follow from the seed and its number alone."""

    def __init__(self, space: Mapping[str, Dimension], seed: int) -> None:
        self._space = space
        self._seed = seed

    def ask(self, number: int) -> dict[str, str]:
        """See `Sampler.ask`."""
        random = Random(f"{self._seed} {number}")  # noqa: S311 - not for secrets
        return {name: dimension.draw(random) for name, dimension in self._space.items()}

    def tell(self, number: int, values: Mapping[str, str], result: float | None) -> None:
        """Nothing is learnt."""


class GridSampler:
    """Every combination once, the last dimension fastest."""

    def __init__(self, space: Mapping[str, Dimension]) -> None:
        self.size = grid_size(space)
        self._values = {name: dimension.grid() for name, dimension in space.items()}

    def ask(self, number: int) -> dict[str, str]:
        """See `Sampler.ask`."""
        found = {}
        for name, values in reversed(self._values.items()):
            number, at = divmod(number, len(values))
            found[name] = values[at]
        return {name: found[name] for name in self._values}

    def tell(self, number: int, values: Mapping[str, str], result: float | None) -> None:
        """Nothing is learnt."""


class TpeSampler:
    """Optuna's tree of Parzen estimators, fed with what the ledger knows."""

    def __init__(self, space: Mapping[str, Dimension], seed: int, *, maximize: bool) -> None:
        try:
            import optuna
        except ImportError:
            raise MissingPackageError(
                "the sampler tpe needs optuna", hint="pip install 'gitml[sweep]', or --sampler random"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("optuna").setLevel(logging.WARNING)
        self._optuna = optuna
        self._distributions = {name: self._distribution(dimension) for name, dimension in space.items()}
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)
        self._asked: dict[int, Any] = {}

    def _distribution(self, dimension: Dimension) -> Any:
        kinds = self._optuna.distributions
        if isinstance(dimension, Choice):
            return kinds.CategoricalDistribution(dimension.options)
        if dimension.whole:
            step = int(dimension.step or 1)
            return kinds.IntDistribution(
                int(dimension.low), int(dimension.high), log=dimension.log, step=step
            )
        return kinds.FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)

    def ask(self, number: int) -> dict[str, str]:
        """See `Sampler.ask`."""
        trial = self._study.ask(self._distributions)
        self._asked[number] = trial
        return {
            name: value if isinstance(value, str) else repr(value) for name, value in trial.params.items()
        }

    def tell(self, number: int, values: Mapping[str, str], result: float | None) -> None:
        """See `Sampler.tell`."""
        state = self._optuna.trial.TrialState
        if number in self._asked:
            trial = self._asked.pop(number)
            self._study.tell(trial, result, state=state.COMPLETE if result is not None else state.FAIL)
            return
        if result is None:
            return
        params = {
            name: self._value(name, text) for name, text in values.items() if name in self._distributions
        }
        if set(params) == set(self._distributions):
            known = self._optuna.trial.create_trial(
                params=params, distributions=self._distributions, value=result, state=state.COMPLETE
            )
            self._study.add_trial(known)

    def _value(self, name: str, text: str) -> Any:
        kinds = self._optuna.distributions
        distribution = self._distributions[name]
        if isinstance(distribution, kinds.CategoricalDistribution):
            return text
        return int(text) if isinstance(distribution, kinds.IntDistribution) else float(text)
