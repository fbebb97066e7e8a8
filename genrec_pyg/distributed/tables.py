r"""Tables of users and items of which a process has a block."""

from __future__ import annotations

import itertools
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from genrec_pyg.distributed.grid import Grid
from genrec_pyg.distributed.layout import GridNodes


class Stored(Protocol):
    r"""A table that is not in memory."""

    def read(self, rows: slice, columns: slice) -> Tensor:
        r"""Some rows and columns of it."""


#: A table, in memory or elsewhere.
Table = Tensor | Stored


class Block:
    r"""The block of a table ``[n, d]`` that a process has: rows of its nodes, columns of its
    channels.

    Args:
        nodes: Nodes that the rows belong to.
        width: Columns ``d`` of the whole table.
        grid: The grid.
    """

    def __init__(self, nodes: GridNodes, width: int, grid: Grid):
        self.nodes, self.width, self.grid = nodes, width, grid
        self.shape = (sum(nodes.sizes), width)

    @property
    def place(self) -> tuple[slice, slice]:
        r"""Rows and columns of the block in the table."""
        return self.nodes.block, self.grid.columns(self.width)[self.grid.channel_block]

    def all_places(self) -> list[tuple[slice, slice]]:
        r"""As :attr:`place`, of every process, in the order of the ranks."""
        rows = [
            slice(begin, begin + size) for begin, size in zip(self.nodes.begins, self.nodes.sizes)
        ]
        return list(itertools.product(rows, self.grid.columns(self.width)))

    def of(self, table: Table) -> Tensor:
        r"""The block of a whole table, a copy."""
        return table[self.place].clone() if isinstance(table, Tensor) else table.read(*self.place)

    def whole(self, block: Tensor) -> Tensor:
        r"""The whole table, in every process."""
        columns = self.grid.columns(self.width)
        widths = [part.stop - part.start for part in columns]
        received = self.grid.channels.gather(block.t().contiguous(), widths).t()
        return self.grid.nodes.gather(received.contiguous(), self.nodes.sizes)


class DividedTable:
    r"""A parameter of a module whose place a block of it takes.

    Args:
        module: Module whose parameter it is.
        attribute: Name of the parameter in the module.
        name: Its name in the model.
        block: The block of this process.
    """

    def __init__(self, module: torch.nn.Module, attribute: str, name: str, block: Block):
        self.module, self.attribute, self.name, self.block = module, attribute, name, block
        whole = getattr(module, attribute)
        self.parameter = Parameter(block.of(whole.detach()), requires_grad=whole.requires_grad)
        self.divide()

    def divide(self) -> None:
        r"""Puts the block in its place."""
        self.module.register_parameter(self.attribute, self.parameter)

    def gather(self) -> None:
        r"""Puts the whole table in its place, without changing the block."""
        self.module.register_parameter(
            self.attribute, Parameter(self.block.whole(self.parameter.detach()))
        )
