"""Convolutions of many members: on a CPU one after another, on a GPU as one grouped convolution.

Of N convolutions with kernels of their own `vmap` makes one with a group a member. On a CPU that costs up to 3.6 times
as much as N plain convolutions (docs/population.md), which are therefore made instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CALLS: dict[Any, Callable[..., Tensor]] = {
    torch.conv1d: torch.conv1d,
    torch.conv2d: torch.conv2d,
    torch.conv3d: torch.conv3d,
}
_NAMES = ("stride", "padding", "dilation", "groups")


class _OneByOne(torch.autograd.Function):
    """A convolution whose rule under `vmap` is a loop over members; autograd sees the plain convolutions within."""

    @staticmethod
    def forward(convolve: Any, values: Tensor, kernel: Tensor, bias: Tensor | None, options: Any) -> Tensor:
        return convolve(values, kernel, bias, **options)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def vmap(
        info: Any, in_dims: Sequence[int | None], convolve: Any, values: Tensor, kernel: Tensor, bias: Any, options: Any
    ) -> tuple[Tensor, int]:
        def member(tensor: Any, dim: int | None, index: int) -> Any:
            return tensor if dim is None else tensor.select(dim, index)

        dims = in_dims[1:4]
        each = [
            convolve(*(member(t, dim, i) for t, dim in zip((values, kernel, bias), dims, strict=True)), **options)
            for i in range(info.batch_size)
        ]
        return torch.stack(each), 0


class OneByOne(TorchFunctionMode):
    """Inside the block, under `vmap`, convolutions are made member by member."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _CALLS:
            return func(*args, **kwargs)
        values, kernel, *rest = args
        options = dict(zip(("bias", *_NAMES), rest, strict=False)) | kwargs
        bias = options.pop("bias", None)
        result: Tensor = _OneByOne.apply(_CALLS[func], values, kernel, bias, options)  # type: ignore[no-untyped-call]
        return result
