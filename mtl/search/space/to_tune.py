"""A space in Ray Tune's distributions. This module brings Ray, so it is imported when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray import tune

from mtl.search.space.dimension import Condition, Dimension
from mtl.search.space.parameters import Choice, Number, Parameter, Simplex

#: None as a choice, in a configuration of Tune. There None says that a parameter does not exist beside the others.
NONE = "none"


def in_words(value: Any) -> Any:
    """A value as a configuration of Tune holds it."""
    return NONE if value is None else value


def to_tune(dimensions: Mapping[str, Dimension], *, conditional: bool = True) -> dict[str, Any]:
    """A space in Ray Tune's distributions, by name.

    Args:
        dimensions: of the space, by name.
        conditional: whether a parameter is None where it does not exist beside the other choices. Most searchers know
            no such parameters. With False every parameter is drawn, and weights on the simplex number by number;
            `mtl.ray.tune.space.from_config` reads both forms.
    """
    made: dict[str, Any] = {}
    for name, dimension in dimensions.items():
        parameter = dimension.parameter
        if isinstance(parameter, Simplex) and not conditional:
            made |= {f"{name}[{place}]": tune.uniform(1e-6, 1 - 1e-6) for place in range(parameter.size)}
        elif dimension.condition is not None and conditional:
            made[name] = tune.sample_from(_Conditional(parameter, dimension.condition))
        else:
            made[name] = distribution(parameter)
    return made


def distribution(parameter: Parameter) -> Any:
    """One parameter as Ray Tune draws it."""
    if isinstance(parameter, Choice):
        choices = [in_words(choice) for choice in parameter.choices]
        return tune.choice(choices) if len(choices) > 1 else choices[0]
    if isinstance(parameter, Simplex):
        return tune.sample_from(_FlatSimplex(parameter.size))
    assert isinstance(parameter, Number)
    if parameter.integer:  # ours includes its upper bound
        make_integer = tune.lograndint if parameter.log else tune.randint
        return make_integer(int(parameter.low), int(parameter.high) + 1)
    return (tune.loguniform if parameter.log else tune.uniform)(parameter.low, parameter.high)


@dataclass(frozen=True)
class _FlatSimplex:
    """Weights drawn flat from the simplex."""

    size: int

    def __call__(self, _spec: Any) -> tuple[float, ...]:
        return Simplex(self.size).sample(np.random.default_rng(np.random.randint(2**31)))


@dataclass(frozen=True)
class _Conditional:
    """A parameter that is None unless the other one has the right choice."""

    parameter: Parameter
    condition: Condition

    def __call__(self, spec: Any) -> Any:
        if spec.config[self.condition.parent] not in self.condition.choices:
            return None
        # Tune has seeded NumPy's global generator, and draws everything else from it.
        return in_words(self.parameter.sample(np.random.default_rng(np.random.randint(2**31))))
