r"""A low-pass filter of the item graph, without training."""

from __future__ import annotations

from collections.abc import Iterable

from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import HistoryTerm, graph_filter
from genrec_pyg.nn.models.history import HistoryRecommender


class GraphFilter(HistoryRecommender):
    r"""Polynomial graph filter (Turbo-CF:
    `Park et al., SIGIR 2024 <https://arxiv.org/abs/2404.14243>`_).

    .. math::
        \tilde{\mathbf{R}} = \mathbf{D}_u^{-a} \mathbf{R} \mathbf{D}_i^{a - 1}, \qquad
        \mathbf{Q} = (\tilde{\mathbf{R}}^{\top} \tilde{\mathbf{R}})^{\circ s}, \quad
        Q_{jj} = 0, \qquad \mathrm{scores} = \mathbf{R} \mathbf{Q}^{h}

    For :math:`s = 1` the filter is a product of the sparse interactions and exact. Otherwise the
    ``k`` largest entries per item are kept, made in blocks of items, in a time that grows with the
    square of the number of items.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        user_power: Power :math:`a` of the user degree, :math:`1 - a` that of the item degree.
        power: Power :math:`s` of every entry.
        hops: Number :math:`h` of filter products, 1 or 2.
        k: Entries kept per item where :math:`s \ne 1`.

    Raises:
        ConfigError: If an argument is outside its accepted values.

    Examples:
        >>> from genrec_pyg.nn import GraphFilter
        >>> from genrec_pyg.testing import toy_graph
        >>> GraphFilter(toy_graph(), hops=2)
        GraphFilter(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        user_power: float = 0.8,
        power: float = 0.7,
        hops: int = 2,
        k: int = 200,
    ):
        super().__init__(data, modalities)
        if hops not in (1, 2):
            raise ConfigError(f'hops: got {hops}, accepted are 1 and 2')
        self.hops = hops
        self.kernel = graph_filter(self.interactions, user_power, power, k)

    def history_terms(self) -> tuple[HistoryTerm, ...]:
        r"""The filter, applied once or twice."""
        return (HistoryTerm(self.kernel, hops=self.hops),)
