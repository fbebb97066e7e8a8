r"""Modules that hold graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.distributed import WHOLE, WholeLayout
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.ops import Adjacency


class GraphModule(torch.nn.Module):
    r"""A module whose attributes may be adjacencies, training graphs, tensors, or dictionaries and
    named tuples of them.

    They follow the parameters to another device or precision (``.to()``, ``.cuda()``,
    ``.double()``), but are no part of the state: a checkpoint holds what was learned, the graph
    comes from the data.
    """

    #: Which rows and columns of its tensors this process has.
    layout: WholeLayout = WHOLE

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GraphModule:
        super()._apply(fn, recurse)
        for name, value in vars(self).items():
            if not name.startswith('_'):
                vars(self)[name] = _move(value, fn)
        return self


def _move(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Adjacency):
        return value.apply(fn)
    if isinstance(value, TrainingGraph):
        return value.to(fn(torch.empty(0)).device)
    if isinstance(value, Tensor):
        return fn(value) if value.is_floating_point() else value.to(fn(torch.empty(0)).device)
    if isinstance(value, dict):
        return {key: _move(entry, fn) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, '_fields'):
        return type(value)(*(_move(entry, fn) for entry in value))
    return value
