r"""Base class of the transforms of this package."""

from __future__ import annotations

import inspect

from torch_geometric.transforms import BaseTransform


class GraphTransform(BaseTransform):
    r"""A transform that keeps every argument of its constructor under its name, and whose ``repr``
    is the call that makes it: datasets tell processed graphs apart by it.
    """

    def __repr__(self) -> str:
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        arguments = ', '.join(f'{name}={getattr(self, name)!r}' for name in names)
        return f'{type(self).__name__}({arguments})'
