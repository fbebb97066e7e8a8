r"""Helpers that leave autocast (``torch.autocast``) where half precision is not accurate enough."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(x: Tensor) -> torch.autocast:
    r"""Context without autocast on the device of ``x``."""
    return torch.autocast(x.device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    r"""``x`` in float32 where autocast left it in half precision, else ``x`` itself."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
