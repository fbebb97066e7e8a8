r"""Processes in a rectangle: blocks of nodes times blocks of channels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch.distributed.device_mesh import init_device_mesh

from genrec_pyg.distributed.collectives import Group
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.utils.collectives import Processes


class Grid:
    r"""Process ``r C + c`` has the nodes of block ``r`` and the columns of block ``c``.

    Products with a graph need no exchange between processes of different columns and items alone
    between those of different nodes, so columns are cut first
    (:func:`~genrec_pyg.distributed.cost.choose_grid`).

    Args:
        num_node_blocks: Blocks of nodes ``R``.
        num_channel_blocks: Blocks of channels ``C``.
        processes: The processes; ``R C`` of them.
        device_type: Type of the devices of their tensors.

    Attributes:
        node_block: Own block of nodes.
        channel_block: Own block of channels.
        nodes: Processes of the same channels, one for each block of nodes.
        channels: Processes of the same nodes, one for each block of channels.
        everyone: All processes.

    Raises:
        ConfigError: If there are more or fewer processes.
    """

    def __init__(
        self,
        num_node_blocks: int,
        num_channel_blocks: int,
        processes: Processes,
        device_type: str = 'cpu',
    ):
        check_grid((num_node_blocks, num_channel_blocks), processes.size)
        self.num_node_blocks, self.num_channel_blocks = num_node_blocks, num_channel_blocks
        self.node_block, self.channel_block = divmod(processes.rank, num_channel_blocks)
        self.everyone = Group(processes.rank, processes.size)
        self.nodes = self.channels = Group()
        if processes.size > 1:
            mesh = init_device_mesh(
                device_type,
                (num_node_blocks, num_channel_blocks),
                mesh_dim_names=('nodes', 'channels'),
            )
            self.nodes = Group(self.node_block, num_node_blocks, mesh.get_group('nodes'))
            self.channels = Group(
                self.channel_block, num_channel_blocks, mesh.get_group('channels')
            )

    def columns(self, width: int) -> list[slice]:
        r"""Columns of a table of ``width`` in every block of channels."""
        return even_parts(width, self.num_channel_blocks)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.num_node_blocks}x{self.num_channel_blocks})'


def parse_grid(text: str) -> tuple[int, int]:
    r"""``'2x4'`` as ``(2, 4)``: blocks of nodes times blocks of channels.

    Raises:
        ConfigError: On any other text.
    """
    match = re.fullmatch(r'([1-9]\d*)[xX]([1-9]\d*)', text)
    if match is None:
        raise ConfigError(
            f"--grid: got {text!r}, accepted are 'auto' and blocks of nodes times blocks of "
            f'channels, such as 2x4'
        )
    return int(match[1]), int(match[2])


def check_grid(shape: tuple[int, int], num_processes: int) -> None:
    r"""Raises :class:`~genrec_pyg.exceptions.ConfigError` unless ``shape`` has a place for every
    process.
    """
    if shape[0] * shape[1] != num_processes:
        raise ConfigError(
            f'--grid: got {shape[0]}x{shape[1]}, {shape[0] * shape[1]} processes, where '
            f'{num_processes} were started; accepted are products that make {num_processes}'
        )


def even_parts(length: int, num_parts: int) -> list[slice]:
    r"""Contiguous parts of ``length``; none has more than one more than another."""
    share, rest = divmod(length, num_parts)
    ends = [(part + 1) * share + min(part + 1, rest) for part in range(num_parts)]
    return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends)]


def weighted_parts(weight: Sequence[int], num_parts: int) -> list[slice]:
    r"""Contiguous parts with about equal sums of ``weight`` (a tensor ``[n]``), each of at least
    one entry where there are enough.
    """
    length, total = len(weight), weight.double().cumsum(0)
    ends, begin = [], 0
    for part in range(1, num_parts):
        cut = int((total <= float(total[-1]) * part / num_parts).sum()) if length else 0
        begin = (
            min(max(cut, begin + 1), max(length - (num_parts - part), begin))
            if length >= num_parts
            else min(max(cut, begin), length)
        )
        ends.append(begin)
    ends.append(length)
    return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends)]
