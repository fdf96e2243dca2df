"""Attention of many members on a CPU: `vmap` has no rule for the quick form, so its plain form is taken."""

from __future__ import annotations

from types import TracebackType

import torch


class PlainAttention:
    """Inside the block `F.scaled_dot_product_attention` is made of products and a softmax, on a CPU."""

    def __enter__(self) -> None:
        # `torch.nn.attention.sdpa_kernel` does the same in fifty times as long; the setting is the CPU's too.
        self._before = torch.backends.cuda.flash_sdp_enabled()
        torch.backends.cuda.enable_flash_sdp(False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.backends.cuda.enable_flash_sdp(self._before)
