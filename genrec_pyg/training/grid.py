r"""Training with the work of every step divided among processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from genrec_pyg.distributed import Grid, GridLayout, check_grid, parse_grid, set_layout
from genrec_pyg.distributed.cost import Machine, Workload, choose_grid
from genrec_pyg.distributed.tables import Block, DividedTable
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import Recommender
from genrec_pyg.optim import MirrorGradient
from genrec_pyg.runs.shards import ShardWriter
from genrec_pyg.training.distributed import Distributed
from genrec_pyg.training.same_work import check_equal, model_fields
from genrec_pyg.utils.collectives import ALONE, Processes

logger = logging.getLogger(__name__)

#: Accepted forms of checkpoints.
CHECKPOINTS = ('auto', 'whole', 'sharded')
#: Bytes of tables and moments from which on ``'auto'`` writes them in pieces.
_LARGE = 2 * 10**9

#: Bytes per second between machines where nothing is known: 10 Gb/s.
_BETWEEN_MACHINES = 1.25e9


class GridDistributed(Distributed):
    r"""Shares a model on a grid of processes: blocks of nodes times blocks of channels
    (:mod:`genrec_pyg.distributed`).

    A process has a block of every table of users and items, with its gradient and optimizer state,
    and does its share of every step. The loss is the sum of what the processes compute. A model
    that cannot be divided (:attr:`~genrec_pyg.nn.models.Recommender.grid`) is trained as with
    ``'ddp'``, after a warning.

    Args:
        processes: The processes.
        grid: ``'auto'``, the cheapest by the cost model, or blocks of nodes times blocks of
            channels, such as ``'2x4'``.
        checkpoint: Whether checkpoints have tables ``'whole'`` or ``'sharded'``, every process
            writing its block; ``'auto'`` takes the latter where tables and moments are 2 GB or
            more.

    Raises:
        ConfigError: On any other grid or checkpoint, or a grid of more or fewer processes.
    """

    def __init__(self, processes: Processes = ALONE, grid: str = 'auto', checkpoint: str = 'auto'):
        super().__init__('grid', processes)
        if checkpoint not in CHECKPOINTS:
            raise ConfigError(
                f'--checkpoint: got {checkpoint!r}, accepted are '
                f'{", ".join(map(repr, CHECKPOINTS))}'
            )
        self.checkpoint = checkpoint
        self.shape = None if grid == 'auto' else parse_grid(grid)
        if self.shape is not None:
            check_grid(self.shape, processes.size)
        self.layout: GridLayout | None = None
        self._divided: list[DividedTable] = []
        self._writer: ShardWriter | None = None

    def attach(self, model: Recommender) -> None:
        if self.processes.size == 1 or not self._divides(model):
            super().attach(model)
            return
        check_equal(self.processes, model_fields(model))
        self._model = model
        shape = self._choose(model)
        device = next(model.parameters()).device
        grid = Grid(*shape, self.processes, device.type)
        self.layout = GridLayout(grid, model.graph.user_degree(), model.num_items)
        self._parameters = list(model.trained_parameters())
        position = {id(parameter): number for number, parameter in enumerate(self._parameters)}
        parameters = dict(model.named_parameters())
        for name, kind in type(model).grid.tables.items():
            parameter = parameters.get(name)
            if parameter is None:  # an option of the model leaves it out
                continue
            block = Block(getattr(self.layout, kind), parameter.size(1), grid)
            prefix, _, attribute = name.rpartition('.')
            table = DividedTable(model.get_submodule(prefix), attribute, name, block)
            self._divided.append(table)
            if id(parameter) in position:
                self._parameters[position[id(parameter)]] = table.parameter
        for parameter in self._small():
            dist.broadcast(parameter.detach(), 0)
        set_layout(model, self.layout)
        self.synchronize()

    def _divides(self, model: Recommender) -> bool:
        support = vars(model).get('grid', vars(type(model)).get('grid'))  # with its options
        names = {name for name, _ in model.named_parameters()}
        if support is not None and set(support.tables) - support.optional <= names:
            return True
        if self.shape is not None:
            raise ConfigError(
                f'--grid: got {self.shape[0]}x{self.shape[1]} for {type(model).__name__}, whose '
                f'work cannot be '
                "divided with these options; accepted is --distributed 'ddp' or 'sharded'"
            )
        logger.warning(
            '%s: the work of a step cannot be divided (with these options): every process does '
            'all of it, on a part of the batch where the model allows it, as with --distributed '
            'ddp',
            type(model).__name__,
        )
        return False

    def _choose(self, model: Recommender) -> tuple[int, int]:
        work = workload(model)
        if model.fan is not None:
            # sampled rows are read from own columns, of all nodes
            return self._columns_alone(work.channels)
        if self.shape is None:
            several = (
                int(os.environ.get('LOCAL_WORLD_SIZE', self.processes.size)) < self.processes.size
            )
            machine = Machine(network=_BETWEEN_MACHINES) if several else Machine()
            shape, reason = choose_grid(work, self.processes.size, machine)
            logger.info(
                'grid of processes: %dx%d (blocks of nodes x blocks of channels); %s',
                *shape,
                reason,
            )
            return shape
        node_blocks, channel_blocks = self.shape
        if channel_blocks > work.channels or node_blocks > min(work.users, work.items):
            raise ConfigError(
                f'--grid: got {node_blocks}x{channel_blocks} for {work.users} users, {work.items} '
                f'items and {work.channels} channels, accepted are at most '
                f'{min(work.users, work.items)} blocks of nodes and {work.channels} of channels'
            )
        return self.shape

    def _columns_alone(self, channels: int) -> tuple[int, int]:
        size = self.processes.size
        if size > channels or self.shape not in (None, (1, size)):
            given = (
                f'{size} processes' if self.shape is None else f'{self.shape[0]}x{self.shape[1]}'
            )
            raise ConfigError(
                f"--grid: got {given} with neighborhood 'sampled' and {channels} channels, "
                f'accepted are blocks of channels alone, 1x{min(size, channels)}'
            )
        return 1, size

    def detach(self) -> None:
        if self.layout is not None:
            for table in self._divided:
                table.gather()
            set_layout(self._model)
        self.layout, self._divided = None, []
        super().detach()

    @contextmanager
    def whole_tables(self) -> Iterator[None]:
        r"""Within this context the model is that of one process, with whole tables."""
        if self.layout is None:
            with super().whole_tables():
                yield
            return
        for table in self._divided:
            table.gather()
        set_layout(self._model)
        try:
            yield
        finally:
            for table in self._divided:
                table.divide()
            set_layout(self._model, self.layout)

    def loss(self, batch: Any) -> dict[str, Tensor]:
        r"""Shares of the terms, whose sum over the processes is that of one process."""
        return super().loss(batch) if self.layout is None else self._model.loss(batch)

    def sum_gradients(self) -> None:
        r"""Gives all processes the sum of their gradients of the parameters that are not
        divided.
        """
        if self.layout is None:
            return
        small = self._small()
        if not small:
            return
        has = small[0].new_tensor([float(parameter.grad is not None) for parameter in small])
        flat = [
            torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1) for p in small
        ]
        total = self.layout.everyone.sum(torch.cat([*flat, has]))
        sums = total.split([*(parameter.numel() for parameter in small), len(small)])
        for parameter, grad, found in zip(small, sums, sums[-1].tolist()):
            parameter.grad = grad.view_as(parameter) if found else None

    def means(self, values: dict[str, Tensor]) -> dict[str, float]:
        r"""Sums of shares over the processes."""
        means = super().means(values)
        return (
            means
            if self.layout is None
            else {name: value * self.processes.size for name, value in means.items()}
        )

    def clip_gradients(self, max_norm: float) -> None:
        if self.layout is None:
            super().clip_gradients(max_norm)
            return
        blocks, small = (
            [p.grad for p in group if p.grad is not None]
            for group in (self._blocks(), self._small())
        )
        square = self.layout.everyone.sum(torch.nn.utils.get_total_norm(blocks).square())
        norm = (square + torch.nn.utils.get_total_norm(small).to(square).square()).sqrt()
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for grad in [*blocks, *small]:
            grad.mul_(factor)

    def _blocks(self) -> list[Parameter]:
        return [table.parameter for table in self._divided]

    def _small(self) -> list[Parameter]:
        divided = {id(parameter) for parameter in self._blocks()}
        return [parameter for parameter in self._parameters if id(parameter) not in divided]

    def model_state(self, model: Recommender) -> dict[str, Any]:
        state = super().model_state(model)
        for table in self._divided:
            state[table.name] = self._gathered(table.block, table.parameter.detach())
        return state

    def load_model_state(self, model: Recommender, state: dict[str, Any]) -> None:
        blocks = {table.name: table.block for table in self._divided}
        super().load_model_state(
            model,
            {
                name: blocks[name].of(value) if name in blocks else value
                for name, value in state.items()
            },
        )

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        state = super().optimizer_state(optimizer)
        return (
            state if isinstance(optimizer, MirrorGradient) else self._mapped(state, self._gathered)
        )

    def _split_state(
        self, optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> dict[str, Any]:
        return self._mapped(
            super()._split_state(optimizer, state), lambda block, value: block.of(value)
        )

    def _gathered(self, block: Block, value: Tensor) -> Any:
        r"""The whole table of a block, or its pieces where these are asked for."""
        return block.whole(value) if self._writer is None else self._writer.add(block, value)

    @contextmanager
    def pieces(self, folder: Path, tag: str) -> Iterator[None]:
        if (
            self.layout is None
            or self.checkpoint == 'whole'
            or self.checkpoint == 'auto'
            and self._bytes() < _LARGE
        ):
            yield
            return
        self._writer = ShardWriter(folder, tag, self.processes)
        try:
            yield
            self._writer.write()
        finally:
            self._writer = None

    def _bytes(self) -> int:
        r"""Bytes of the tables and two moments of each."""
        return sum(
            3 * table.block.shape[0] * table.block.shape[1] * table.parameter.element_size()
            for table in self._divided
        )

    def _mapped(
        self, state: dict[str, Any], function: Callable[[Block, Any], Any]
    ) -> dict[str, Any]:
        r"""State of the optimizer with the tables in it replaced; a count of steps stays."""
        blocks = {
            number: table.block
            for table in self._divided
            for number, parameter in enumerate(self._parameters)
            if parameter is table.parameter
        }
        states = {
            number: {
                key: function(blocks[number], value)
                if number in blocks and len(getattr(value, 'shape', ())) == 2
                else value
                for key, value in entry.items()
            }
            for number, entry in state['state'].items()
        }
        return {**state, 'state': states}

    def _own_parameters(self) -> list[Parameter]:
        return [*super()._own_parameters(), *self._blocks()]

    def __repr__(self) -> str:
        shape = 'auto' if self.shape is None else f'{self.shape[0]}x{self.shape[1]}'
        return f'{self.__class__.__name__}({self.processes!r}, {shape!r})'


def workload(model: Recommender, batch: int = 0) -> Workload:
    r"""Sizes of a step of ``model``, for the cost model."""
    graph, support = model.graph, type(model).grid
    parameters = dict(model.named_parameters())
    channels = max(parameters[name].size(1) for name in support.tables if name in parameters)
    widths = [modality.x.size(1) for modality in graph.modalities.values()] if support.rows else []
    layers = next(
        (module.num_layers for module in model.modules() if hasattr(module, 'num_layers')), 0
    )
    generated = 5 * graph.num_users if getattr(model, 'generator', None) is not None else 0
    return Workload(
        graph.num_users,
        graph.num_items,
        graph.num_edges,
        batch or max(graph.num_edges // 32, 1),
        channels,
        layers,
        len(widths),
        max(widths, default=0),
        generated,
    )
