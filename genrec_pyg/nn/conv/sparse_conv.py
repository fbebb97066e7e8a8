r"""Message passing on sparse kernels; falls back to PyG's per-edge messages when hooks or an
explainer need them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import Adj
from torch_geometric.utils import is_sparse

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import Adjacency, DividedAdjacency, spmm


class SparseConv(MessagePassing):
    r"""Weighted sum over neighbors
    :math:`\mathbf{y}_i = \sum_{j \in \mathcal{N}(i)} w_{ij} \, \mathbf{x}_j`.

    Three kinds of graph are accepted, with the same result:

    * an :class:`~genrec_pyg.ops.Adjacency`, whose rows are targets: :meth:`message_and_aggregate`
      calls :func:`genrec_pyg.ops.spmm` on its cached layouts. While an explainer or a hook on
      messages, aggregation or propagation is active, the edges are listed in the order of its
      entries instead, so that PyG's explainers and hooks see every message;
    * ``edge_index`` ``[2, E]`` from source to target with optional ``edge_weight``: PyG's gather
      and scatter. That of an adjacency is ``adj.to_edge_index()[0].flip(0)``;
    * a ``torch_sparse.SparseTensor`` or sparse :class:`torch.Tensor`, transposed as PyG wants it
      (rows are targets). It is converted at every call: make an :class:`~genrec_pyg.ops.Adjacency`
      once where speed matters.

    Node features may be ``[N, d]`` or, for several modalities over one graph, ``[M, N, d]``.

    Args:
        backend: Back end of the product with an adjacency, as in :func:`genrec_pyg.ops.spmm`.
        **kwargs: Further arguments of :class:`torch_geometric.nn.conv.MessagePassing`.
    """

    def __init__(self, backend: str = 'auto', **kwargs: Any):
        super().__init__(aggr='add', node_dim=-2, **kwargs)
        self.backend = backend

    def forward(
        self,
        x: Tensor,
        edge_index: Adj | Adjacency,
        edge_weight: Tensor | None = None,
        num_targets: int | None = None,
    ) -> Tensor:
        r"""Sums over neighbors.

        Args:
            x: Source features ``[N, d]`` or ``[M, N, d]``.
            edge_index: Graph.
            edge_weight: Weights ``[E]`` of a plain ``edge_index``, or in place of the entries of an
                adjacency.
            num_targets: Number of targets of a plain ``edge_index`` where it differs from ``N``.

        Returns:
            Target features ``[R, d]`` or ``[M, R, d]``.

        Raises:
            ConfigError: If ``edge_weight`` comes with a sparse tensor, which has weights of its
                own.
        """
        if isinstance(edge_index, DividedAdjacency):
            return spmm(edge_index, x, self.backend)
        if isinstance(edge_index, Adjacency):
            if edge_weight is not None:
                edge_index = edge_index.with_value(edge_weight)
            if not self._observed():
                return self._fused(edge_index, x)
            num_targets = edge_index.size[0]
            entries, edge_weight = edge_index.to_edge_index()
            edge_index = entries.flip(0)
        if is_sparse(edge_index):
            if edge_weight is not None:
                raise ConfigError(
                    f'edge_weight: got shape {tuple(edge_weight.shape)} beside a sparse tensor, '
                    f'accepted is None: its entries are the weights'
                )
            return self.propagate(edge_index, x=(x, None), edge_weight=None)
        size = (
            x.size(self.node_dim),
            x.size(self.node_dim) if num_targets is None else num_targets,
        )
        return self.propagate(edge_index, x=(x, None), edge_weight=edge_weight, size=size)

    def message(self, x_j: Tensor, edge_weight: Tensor | None) -> Tensor:
        r"""Weighted source row of every edge."""
        return x_j if edge_weight is None else edge_weight.to(x_j.dtype).unsqueeze(-1) * x_j

    def message_and_aggregate(self, edge_index: Adj | Adjacency, x: Any) -> Tensor:
        r"""All messages and their sum in one sparse product."""
        source = x[0] if isinstance(x, tuple) else x
        matrix = (
            edge_index
            if isinstance(edge_index, Adjacency)
            else Adjacency.from_sparse_tensor(edge_index)
        )
        return spmm(matrix, source, self.backend)

    def _observed(self) -> bool:
        return bool(
            self.explain
            or self._message_forward_pre_hooks
            or self._message_forward_hooks
            or self._aggregate_forward_pre_hooks
            or self._aggregate_forward_hooks
            or self._propagate_forward_pre_hooks
            or self._propagate_forward_hooks
        )

    def _fused(self, matrix: Adjacency, x: Tensor) -> Tensor:
        arguments = {'x': (x, None)}
        for hook in self._message_and_aggregate_forward_pre_hooks.values():
            matrix, arguments = hook(self, (matrix, arguments)) or (matrix, arguments)
        out = self.message_and_aggregate(matrix, **arguments)
        for hook in self._message_and_aggregate_forward_hooks.values():
            changed = hook(self, (matrix, arguments), out)
            out = out if changed is None else changed
        return out

    def _set_jittable_templates(self, raise_on_error: bool = False) -> None:
        super()._set_jittable_templates(raise_on_error)
        # A subclass inherits the propagate that PyG generated for its parent and takes it for the
        # original, to which it returns for explanations; but generated code ignores edge masks.
        type(self)._orig_propagate = getattr(
            MessagePassing, '_orig_propagate', MessagePassing.propagate
        )
