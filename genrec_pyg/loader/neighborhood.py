r"""Sampled neighborhoods of the nodes that a batch reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.sampler import BaseSampler, EdgeSamplerInput, NodeSamplerInput, SamplerOutput

from genrec_pyg.ops import Adjacency
from genrec_pyg.utils.keyed import draw_key, keyed_uniform, mix
from genrec_pyg.utils.validation import check_range


@dataclass(frozen=True)
class Neighborhood:
    r"""Rows that some nodes read over several layers.

    Args:
        node: Distinct nodes ``[m]`` in the order in which layers reach them, those asked for first.
        layers: From the nodes asked for outwards, a matrix for every layer: its rows are the nodes
            that were known before the layer, its columns those that are known after it.
        entries: Positions of the entries of each layer in the graph.
    """

    node: Tensor
    layers: list[Adjacency]
    entries: list[Tensor]

    def weighted_sum(self, x: Tensor, weights: Any) -> Tensor:
        r"""Rows ``[n, d]`` of :math:`\sum_l \alpha_l \mathbf{A}^l \mathbf{X}` for the nodes asked
        for, by Horner's rule from the outermost layer in.

        Args:
            x: Rows of :attr:`node` ``[m, d]``.
            weights: :math:`\alpha_0, \dots, \alpha_L`, numbers or a tensor.
        """
        out = weights[len(self.layers)] * x
        for number in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[number]
            out = weights[number] * x[: layer.size[0]] + layer @ out
        return out


class LayerNeighborSampler(BaseSampler):
    r"""Samples the neighbors of a layer together (LABOR: Balin, Catalyurek, NeurIPS 2023,
    https://arxiv.org/abs/2210.13339, in its Poisson form).

    In every layer a source node ``w`` draws one number :math:`u_w`, and an entry ``(v, w)`` stays
    if :math:`u_w < p_v = \min(1, f / \deg v)`, divided by :math:`p_v`: ``f`` neighbors of a node
    with more, in expectation, and a product that is unbiased. Since the rows of a layer share the
    draws they share sources too, and fewer distinct rows are read than with draws per entry. A
    draw belongs to key, layer and node alone: the row of a node is the same whichever other nodes
    are asked for, and in every process that has drawn the same before.

    Unlike :class:`torch_geometric.sampler.NeighborSampler` it needs no compiled package, and every
    layer samples again for all nodes known before it, as a mean over layers wants.

    Args:
        adj: Square matrix of all nodes; row ``v`` has the neighbors that ``v`` reads.
        num_layers: Layers ``L``.
        fan: Neighbors ``f`` of a node and layer that are kept in expectation.

    Raises:
        ConfigError: If ``fan`` is below 1.
    """

    def __init__(self, adj: Adjacency, num_layers: int, fan: int):
        check_range('fan', fan, 1)
        self.adj, self.num_layers, self.fan = adj, num_layers, fan

    def sample(self, node: Tensor, key: int | None = None) -> Neighborhood:
        r"""The neighborhood of distinct nodes ``[n]``, drawn from ``key`` or, by default, from one
        number of torch's global generator of the CPU.
        """
        key = draw_key() if key is None else key
        place = node.new_full((self.adj.size[0],), -1)  # of every known node
        place[node] = torch.arange(node.numel(), device=node.device)
        layers, entries = [], []
        for layer in range(self.num_layers):
            rowptr, entry = self.adj.row_entries(node)
            col = self.adj.col[entry].long()
            share = (self.fan / rowptr.diff().clamp(min=1)).clamp(max=1.0)
            row = torch.repeat_interleave(rowptr.diff(), output_size=col.numel())
            keep = keyed_uniform(mix(key, layer), col) < share[row]
            row, col, entry = row[keep], col[keep], entry[keep]
            value = (
                self.adj.value[entry] if self.adj.value is not None else share.new_ones(len(entry))
            )
            value = value / share[row].to(value.dtype)
            num_rows = node.numel()
            new = col[place[col] < 0].unique()
            place[new] = torch.arange(num_rows, num_rows + new.numel(), device=node.device)
            node = torch.cat([node, new])
            count = torch.bincount(row, minlength=num_rows)
            layers.append(
                Adjacency(
                    torch.cat([count.new_zeros(1), count.cumsum(0)]),
                    place[col],
                    value,
                    (num_rows, node.numel()),
                )
            )
            entries.append(entry)
        return Neighborhood(node, layers, entries)

    def sample_from_nodes(self, index: NodeSamplerInput, **kwargs: Any) -> SamplerOutput:
        r"""As :class:`torch_geometric.loader.NodeLoader` asks: edges of all layers from source to
        target by hop, ``edge`` their positions in the matrix. Nodes asked for must be distinct.
        """
        found = self.sample(index.node)
        target, source, sizes = [], [], [index.node.numel()]
        for layer in found.layers:
            target.append(layer.row())
            source.append(layer.col.long())
            sizes.append(layer.size[1] - layer.size[0])
        return SamplerOutput(
            node=found.node,
            row=torch.cat(source),
            col=torch.cat(target),
            edge=torch.cat(found.entries),
            num_sampled_nodes=sizes,
            num_sampled_edges=[layer.nnz for layer in found.layers],
            metadata=(index.input_id, index.time),
        )

    def sample_from_edges(self, index: EdgeSamplerInput, neg_sampling: Any = None) -> SamplerOutput:
        r"""Refused: triples of a batch come from :class:`~genrec_pyg.loader.InteractionLoader`.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f'{type(self).__name__} samples from nodes; take NodeLoader')

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(nodes={self.adj.size[0]}, layers={self.num_layers}, '
            f'fan={self.fan})'
        )
