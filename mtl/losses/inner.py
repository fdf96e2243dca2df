"""A loss within another, which has its spec as a hyperparameter."""

from __future__ import annotations

import functools

from mtl.losses.loss import Loss


@functools.lru_cache(maxsize=256)  # asked for at every step
def inner_loss(spec: str) -> Loss:
    """The loss that `spec` names, as `make_loss` makes it."""
    from mtl.losses.spec import make_loss  # which reads the registry, which holds the losses that have others within

    return make_loss(spec)
