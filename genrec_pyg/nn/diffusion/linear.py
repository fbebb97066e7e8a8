r"""The optimal linear denoiser, in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.diffusion.denoiser import Denoiser
from genrec_pyg.nn.diffusion.objectives import SquaredError
from genrec_pyg.nn.diffusion.process import DiffusionProcess
from genrec_pyg.nn.diffusion.states import ItemViews, RowState, SparseRows, row_product
from genrec_pyg.nn.modality.features import centered_unit_rows
from genrec_pyg.ops import Adjacency, leading_eigenpairs, spmm


class LinearDenoiser(Denoiser):
    r"""Linear map that best recovers rows from noisy rows, computed rather than trained.

    With the cumulative flip rates :math:`\bar\gamma, \bar\epsilon` of the last step and
    :math:`a = 1 - \bar\gamma - \bar\epsilon`, the row
    :math:`\tilde{\mathbf{x}} = (\mathbf{x}_t - \bar\gamma) / a` is an unbiased estimate of
    :math:`\mathbf{x}_0`, and its second moment over the flips is exactly

    .. math::
        \mathbb{E}[\tilde{\mathbf{X}}^{\top} \tilde{\mathbf{X}}]
        = \mathbf{R}^{\top} \mathbf{R} + \mathbf{\Lambda}, \qquad
        \Lambda_{jj} = \frac{d_j \bar\epsilon (1 - \bar\epsilon) + (U - d_j) \bar\gamma (1
        - \bar\gamma)}{a^2}

    so
    :math:`\min_{\mathbf{B}} \mathbb{E} \Vert \mathbf{X}_0 - \tilde{\mathbf{X}} \mathbf{B} \Vert^2`
    with zero diagonal is EASE (Steck, WWW 2019) whose ridge the flip schedule determines: flip
    noise *is* the regularizer. With Gaussian noise
    :math:`\tilde{\mathbf{x}} = \mathbf{x}_t / \sqrt{\bar\alpha}` and
    :math:`\Lambda_{jj} = U (1 - \bar\alpha) / \bar\alpha`, the constant ridge of EASE: this
    diagonal is all in which flips differ from noise here. Modalities enter as further rows of the
    regression, :math:`\sqrt{\beta} \, \mathbf{X}_m^{\top}` with centered unit item features
    (collective EASE: Jeunen, Van Balen, Goethals, RecSys 2020), which also gives items without
    interactions a key.

    Only the leading ``rank`` eigenpairs of the scaled Gram matrix are kept, found by subspace
    iteration on sparse products, so that nothing of size I x I is ever formed; the diagonal
    constraint divides by :math:`1 - c_j` as in EASE, with :math:`c_j` the kept part of the leverage
    of item ``j``. The regression is solved when it is first needed, so that a map that is given
    (:meth:`set_solution`, a loaded state) costs no solution.

    Args:
        graph: Training graph.
        process: Process that gives the noise.
        rank: Eigenpairs kept.
        modality_weight: Weight :math:`\beta` of the modality rows, 0 for interactions alone.
        num_iterations: Subspace iterations.
    """

    trainable = False
    objective = SquaredError()

    def __init__(
        self,
        graph: TrainingGraph,
        process: DiffusionProcess,
        rank: int = 512,
        modality_weight: float = 50.0,
        num_iterations: int = 6,
    ):
        super().__init__()
        self.graph = graph
        self.process = process
        self.rank = min(rank, graph.num_items)
        self.modality_weight = modality_weight
        self.num_iterations = num_iterations
        self.register_buffer('query_weight', torch.zeros(graph.num_items, self.rank))
        self.register_buffer('key_weight', torch.zeros(graph.num_items, self.rank))
        self.register_buffer('rate', torch.zeros(process.num_steps, 2))
        self._solved: list[tuple[int, int]] = []
        self._pending = True

    def reset_parameters(self) -> None:
        r"""Has the regression solved again at the next use, unless the buffers hold its
        solution.
        """
        self._pending = self._pending or self._solved != self._buffer_versions()

    def solve(self) -> None:
        r"""Solves the regression where that is still to be done."""
        if self._pending:
            self._pending = False
            self._solve()

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.solve()
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._pending = False

    @torch.no_grad()
    def _solve(self) -> None:
        graph = self.graph
        interactions = Adjacency.from_edge_index(
            graph.edge_index, size=(graph.num_users, graph.num_items)
        )
        rates = self._set_rate(interactions)
        popularity = graph.item_degree().to(self.query_weight.dtype)
        # The floor: a noiseless process leaves the regression without a regularizer.
        ridge = self.process.estimate_variance(popularity, graph.num_users, rates).clamp(min=1e-3)
        scale = ridge.rsqrt().unsqueeze(1)

        features = []
        if self.modality_weight > 0:
            features = [
                centered_unit_rows(m.item_features().to(scale.dtype))
                for m in graph.modalities.values()
            ]

        def gram(y: Tensor) -> Tensor:
            y = scale * y
            product = spmm(interactions.t(), spmm(interactions, y))
            for x in features:
                product = product + self.modality_weight * (x @ (x.t() @ y))
            return scale * product

        value, vector = leading_eigenpairs(
            gram, graph.num_items, self.rank, self.num_iterations, popularity
        )
        shrink = (value / (1 + value)).sqrt()
        leverage = (vector * shrink).square().sum(dim=1, keepdim=True).clamp(max=1 - 1e-4)
        self.query_weight.copy_(scale * vector * shrink)
        self.key_weight.copy_(vector * shrink / scale / (1 - leverage))
        self._solved = self._buffer_versions()

    @torch.no_grad()
    def set_solution(self, query: Tensor, key: Tensor) -> None:
        r"""Takes another map than that of the noise: factors ``[I, r]`` from history items and to
        scored items, of at most the rank of the denoiser.
        """
        rank = query.size(1)
        if rank > self.rank:
            raise ValueError(f'query, key: got {rank} columns, at most {self.rank} are accepted')
        self._set_rate(
            Adjacency.from_edge_index(
                self.graph.edge_index, size=(self.graph.num_users, self.graph.num_items)
            )
        )
        self._pending = False
        self.query_weight.zero_()[:, :rank] = query
        self.key_weight.zero_()[:, :rank] = key
        self._solved = self._buffer_versions()

    def _set_rate(self, interactions: Adjacency) -> Any:
        rates = self.process.rates(
            SparseRows(interactions.rowptr, interactions.col, self.graph.num_items)
        )
        self.rate.copy_(self.process.unbiased(rates))
        return rates

    def _buffer_versions(self) -> list[tuple[int, int]]:
        # Torch counts how often a tensor was written to; one that was moved or copied is another
        # tensor.
        return [(id(buffer), buffer._version) for buffer in self.buffers()]

    def query(self, state: RowState, t: Tensor, views: ItemViews) -> Tensor:
        r"""Queries ``[B, rank]`` of the unbiased estimates of the clean rows."""
        self.solve()
        shift, scale = self.rate[t].unsqueeze(2).unbind(dim=1)
        return (
            row_product(state, self.query_weight) - shift * self.query_weight.sum(dim=0)
        ) / scale

    def clean_query(self, rows: SparseRows) -> Tensor:
        r"""Queries ``[B, rank]`` of rows without noise."""
        self.solve()
        return row_product(rows, self.query_weight)

    def keys(self, views: ItemViews) -> Tensor:
        r"""Keys ``[I, rank]``."""
        self.solve()
        return self.key_weight
