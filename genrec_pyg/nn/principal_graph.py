r"""The low-rank part of an interaction graph."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.ops import Adjacency, bipartite_block, block_krylov_svd, rows_per_block, spmm


class PrincipalGraph(GraphModule):
    r"""Global principal graph of PGL (Yu et al., AAAI 2025).

    With triplets :math:`\sigma_p, \mathbf{a}_p, \mathbf{b}_p` of the normalized interactions
    :math:`\hat{\mathbf{R}}`, of which :math:`n = r / 2` are taken,

    .. math::
        \mathbf{A}_{UI} = \sum_{p < r/8} \sigma_p \, \sigma_{n - r/8
        + p} \, \mathbf{a}_p \mathbf{b}_p^{\top}

    and its transpose for items; this equals the authors' sum over ``r`` triplets of the bipartite
    adjacency, in which each of those comes twice. The graph is kept as its factors, so that no
    matrix of users x items is made. The leading singular value is 1 once per connected component,
    and its vectors are then any mixture of them: the factors are those of the largest component,
    and the interactions of all others stay as they are.

    Args:
        graph: Training graph.
        rank: ``r``, at least 8.
        threshold: Entries of smaller magnitude count as 0. Above 0 the entries are kept one by one,
            found in blocks of users.

    Raises:
        ConfigError: If ``rank`` is less than 8 or ``threshold`` negative.
    """

    def __init__(self, graph: TrainingGraph, rank: int = 64, threshold: float = 0.0):
        super().__init__()
        if rank < 8:
            raise ConfigError(f'rank: got {rank}, accepted are integers from 8')
        if not threshold >= 0:
            raise ConfigError(f'threshold: got {threshold}, accepted are numbers from 0')
        self.num_users, self.num_items = graph.num_users, graph.num_items
        block = bipartite_block(
            graph.edge_index, graph.num_users, graph.num_items, self_loops=False
        )
        inside = _largest_component(graph).to(graph.edge_index.device)
        (user, item), value = block.to_edge_index()
        users, items = user[inside].unique(), item[inside].unique()
        core = Adjacency.from_edge_index(
            torch.stack(
                [torch.searchsorted(users, user[inside]), torch.searchsorted(items, item[inside])]
            ),
            value[inside],
            (users.numel(), items.numel()),
        )
        left, sigma, right = block_krylov_svd(core, rank // 2)
        pairs = min(rank // 8, sigma.numel())
        scale = (sigma[:pairs] * sigma[sigma.numel() - pairs :]).sqrt()
        self.user_factor = value.new_zeros(self.num_users, pairs).index_copy(
            0, users, left[:, :pairs] * scale
        )
        self.item_factor = value.new_zeros(self.num_items, pairs).index_copy(
            0, items, right[:, :pairs] * scale
        )
        rest, rest_value = torch.stack([user, item])[:, ~inside], value[~inside]
        if threshold > 0:
            entries, entry_value = _large_entries(self.user_factor, self.item_factor, threshold)
            rest = torch.cat([rest, entries], dim=1)
            rest_value = torch.cat([rest_value, entry_value])
            self.user_factor, self.item_factor = self.user_factor[:, :0], self.item_factor[:, :0]
        self.rest = Adjacency.from_edge_index(rest, rest_value, block.size)

    def forward(self, x: Tensor) -> Tensor:
        r"""Multiplies the graph with rows of all nodes ``[N, d]``, users first."""
        users, items = x.split([self.num_users, self.num_items])
        return torch.cat(
            [
                self.user_factor @ (self.item_factor.t() @ items) + spmm(self.rest, items),
                self.item_factor @ (self.user_factor.t() @ users) + spmm(self.rest.t(), users),
            ]
        )

    def layer_mean(self, x: Tensor, num_layers: int) -> Tensor:
        r"""Mean over layers 0 to ``num_layers`` ``[N, d]`` of rows ``x`` ``[N, d]``."""
        out = x
        for _ in range(num_layers):
            out = x + self(out)
        return out / (num_layers + 1)


def _largest_component(graph: TrainingGraph) -> Tensor:
    r"""Interactions ``[E]`` of the connected component with most nodes, the first of several."""
    user, item = graph.edge_index.cpu().numpy()
    size = graph.num_users + graph.num_items
    matrix = sp.coo_matrix(
        (np.ones(user.size, dtype=np.int8), (user, item + graph.num_users)), shape=(size, size)
    )
    component = connected_components(matrix, directed=False)[1]
    return torch.from_numpy(component[user] == np.bincount(component).argmax())


def _large_entries(
    user_factor: Tensor, item_factor: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    entries, values = [], []
    for row in torch.arange(user_factor.size(0), device=user_factor.device).split(
        rows_per_block(item_factor.size(0))
    ):
        block = user_factor[row] @ item_factor.t()
        place = (block.abs() >= threshold).nonzero().t()
        entries.append(torch.stack([row[place[0]], place[1]]))
        values.append(block[place[0], place[1]])
    return torch.cat(entries, dim=1), torch.cat(values)
