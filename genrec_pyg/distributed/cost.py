r"""What a step costs on a grid of processes, and the grid that costs least."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from genrec_pyg.distributed.collectives import in_two_steps
from genrec_pyg.exceptions import ConfigError

#: Blocks of channels that are tried; fewer than 16 columns per process save little once the
#: gathered rows leave the cache.
_CHANNEL_BLOCKS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Machine:
    r"""Constants of one core and of the way to the others; ``benchmarks`` measures them.

    Args:
        entry: Seconds per entry of a sparse product that gathers from the cache.
        column: Further seconds per entry and column there.
        line: Seconds per cache line, 16 numbers, that is gathered from memory.
        cache: Bytes of gathered rows that stay in the cache.
        flops: Floating-point operations per second of dense products.
        bandwidth: Bytes per second of elementwise passes.
        network: Bytes per second to other processes.
        latency: Seconds per message and doubling of the processes.
    """

    entry: float = 0.8e-9
    column: float = 0.15e-9
    line: float = 8e-9
    cache: float = 8e6
    flops: float = 55e9
    bandwidth: float = 10e9
    network: float = 2e9
    latency: float = 5e-5


@dataclass(frozen=True)
class Workload:
    r"""Sizes that a step depends on.

    Args:
        users: Users ``U``.
        items: Items ``I``.
        edges: Training interactions ``E``.
        batch: Triples per step ``B``.
        channels: Width ``d``.
        layers: Layers ``L``.
        modalities: Modalities ``M``, 0 for a model on channels alone.
        modality_channels: Width of their features.
        generated: Generated interactions.
        neighbors: Neighbors per item in the item graphs.
    """

    users: int
    items: int
    edges: int
    batch: int
    channels: int = 64
    layers: int = 2
    modalities: int = 0
    modality_channels: int = 0
    generated: int = 0
    neighbors: int = 5


class StepCost(NamedTuple):
    r"""A step of one process: seconds of sparse products, dense products, elementwise passes and
    exchanges, bytes sent, and bytes of memory beyond the data.
    """

    sparse: float
    dense: float
    elementwise: float
    exchange: float
    num_bytes: float
    memory: float

    @property
    def seconds(self) -> float:
        r"""Seconds of the step."""
        return self.sparse + self.dense + self.elementwise + self.exchange


def entry_seconds(columns: int, rows: float, machine: Machine) -> float:
    r"""Seconds per entry of a product of ``columns`` columns that gathers from ``rows`` rows, in
    its best blocks.
    """

    def at_once(width: int) -> float:
        inside = machine.entry + machine.column * width
        return (
            inside
            if rows * width * 4 <= machine.cache
            else max(inside, machine.line * math.ceil(width / 16))
        )

    widths = [width for width in (4, 8, 16, 32, 64) if width < columns]
    return min(at_once(width) * columns / width for width in (*widths, columns))


def step_cost(work: Workload, shape: tuple[int, int], machine: Machine = Machine()) -> StepCost:
    r"""Cost of a step on a grid of ``shape``: blocks of nodes times blocks of channels."""
    node_blocks, channel_blocks = shape
    size, nodes, d = node_blocks * channel_blocks, work.users + work.items, work.channels
    columns = math.ceil(d / channel_blocks)
    rows = work.modalities + 1 if work.modalities else 0  # tables that pass between the layouts
    to_users = entry_seconds(columns, work.items, machine)
    to_items = entry_seconds(columns, work.users / node_blocks, machine)
    sparse = 2 * work.layers * (work.edges + work.generated) / node_blocks * (to_users + to_items)
    sparse += (
        2 * work.modalities * (work.edges / node_blocks + work.neighbors * work.items) * to_users
    )
    dense = (
        6 * d * work.modalities * (work.items * (work.modality_channels + 2 * d) + 2 * nodes * d)
    )
    dense += 24 * work.batch * min(1024, work.batch) * d if rows else 12 * work.batch * d
    elementwise = 184 * rows * nodes * d if rows else 60 * (nodes + work.batch) * d
    num_bytes, messages = exchanged(work, shape)
    several = size > 1
    memory = (16 + (85 * rows if rows else 25)) * nodes * d / size + 8 * (
        work.edges + work.generated
    ) / node_blocks
    memory += (node_blocks > 1) * 4 * work.items * columns * max(rows, 1)
    exchange = several * (
        num_bytes / machine.network + messages * machine.latency * math.log2(max(size, 2))
    )
    return StepCost(
        sparse,
        dense / (size * machine.flops),
        elementwise / (size * machine.bandwidth),
        exchange,
        num_bytes,
        memory,
    )


def exchanged(work: Workload, shape: tuple[int, int]) -> tuple[float, int]:
    r"""Bytes that a process sends in a step, forward and backward, and the number of messages.

    The rows of other processes that a batch reads are taken to be distinct and evenly owned; all
    else is exact where blocks are even.
    """
    node_blocks, channel_blocks = shape
    size, d = node_blocks * channel_blocks, work.channels
    columns = d / channel_blocks
    elsewhere, other_columns = 1 - 1 / node_blocks, 1 - 1 / channel_blocks
    products = 4 * work.layers * (2 if work.generated else 1)
    numbers = products * work.items * columns * elsewhere
    messages = products * (node_blocks > 1)
    if work.modalities:
        rows = work.modalities + 1
        numbers += 2 * work.modalities * work.items * columns * elsewhere
        numbers += (
            2
            * d
            * other_columns
            / size
            * (rows * (work.users + work.items) + work.modalities * work.items)
        )
        numbers += 2 * 3 * work.batch / size * 2 * d * (1 - 1 / size)
        messages += (
            2 * (node_blocks > 1) + 4 * (channel_blocks > 1) + 14 + 6 * work.modalities
        ) * (size > 1)
    else:
        scores = work.batch / node_blocks
        parts = in_two_steps(int(scores), channel_blocks)
        numbers += scores * (2 * other_columns if parts else channel_blocks - 1)
        numbers += 2 * 2 * work.batch / node_blocks * columns * elsewhere
        messages += (1 + parts) * (channel_blocks > 1) + 4 * (node_blocks > 1)
    return 4 * numbers, messages


def choose_grid(
    work: Workload, num_processes: int, machine: Machine = Machine()
) -> tuple[tuple[int, int], str]:
    r"""The cheapest grid of ``num_processes``, and why.

    Raises:
        ConfigError: If no grid has a column and a node for every process.
    """
    shapes = [
        (num_processes // blocks, blocks)
        for blocks in _CHANNEL_BLOCKS
        if num_processes % blocks == 0
    ]
    shapes += [(1, num_processes)] if num_processes not in _CHANNEL_BLOCKS else []
    shapes = [
        shape
        for shape in shapes
        if shape[1] <= work.channels and shape[0] <= min(work.users, work.items)
    ]
    if not shapes:
        raise ConfigError(
            f'--distributed: {num_processes} processes for {work.channels} columns, {work.users} '
            f'users and {work.items} items; accepted are at most as many'
        )
    costs = {shape: step_cost(work, shape, machine) for shape in shapes}
    best = min(costs, key=lambda shape: costs[shape].seconds)
    alternatives = ', '.join(
        f'{shape[0]}x{shape[1]} {cost.seconds:.3g} s' for shape, cost in costs.items()
    )
    return (
        best,
        f'expected seconds per step: {alternatives}; {costs[best].num_bytes / 1e6:.3g} MB '
        f'sent by each process',
    )
