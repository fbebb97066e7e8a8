r"""Cleaning of modality features."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import check_graph, linked_nodes, name_list, select_modalities
from genrec_pyg.graph.containers import as_dense
from genrec_pyg.ops import rows_per_block, singular_value_threshold
from genrec_pyg.transforms.base import GraphTransform

NAN_POLICIES = ('error', 'zero', 'mean')


@functional_transform('clean_features')
class CleanFeatures(GraphTransform):
    r"""Makes modality features finite float32 and, on request, standardized and denoised, in this
    order.

    Means, deviations and singular values are those of the nodes that some item links to; other
    nodes are treated alike and have no part in them. Means and deviations are taken in float64.

    Args:
        nan: Treatment of NaN and infinite entries: ``'error'`` refuses them, ``'zero'`` sets them
            to zero, ``'mean'`` to the mean of the finite entries of their column (zero where there
            is none).
        standardize: Whether each column gets zero mean and unit variance; constant columns become
            zero.
        svt: Fraction of the largest singular value for
            :func:`~genrec_pyg.ops.singular_value_threshold`; :obj:`None` leaves it out.
        modalities: Modalities to clean; :obj:`None` takes all.

    Raises:
        ConfigError: On an unknown policy or modality, or ``svt`` outside [0, 1].
        DataError: If an entry is not finite under ``nan='error'``, or the graph is not canonical.

    Examples:
        >>> from genrec_pyg.testing import toy_graph
        >>> from genrec_pyg.transforms import CleanFeatures
        >>> CleanFeatures()(toy_graph())['text'].x.shape
        torch.Size([7, 5])
    """

    def __init__(
        self,
        nan: str = 'error',
        standardize: bool = False,
        svt: float | None = None,
        modalities: str | Iterable[str] | None = None,
    ):
        if nan not in NAN_POLICIES:
            raise ConfigError(
                f'nan: got {nan!r}, accepted are {", ".join(map(repr, NAN_POLICIES))}'
            )
        if svt is not None and not 0 <= svt <= 1:
            raise ConfigError(
                f'svt: got {svt!r}, accepted is a fraction of the largest singular value '
                f'from 0 to 1'
            )
        self.nan = nan
        self.standardize = standardize
        self.svt = svt
        self.modalities = name_list(modalities)

    def forward(self, data: HeteroData) -> HeteroData:
        check_graph(data, finite=False, disjoint=False)
        for name in select_modalities(data, self.modalities):
            x, linked = as_dense(data[name].x).detach(), linked_nodes(data, name)
            if self.standardize:  # what float32 cannot hold may be large only before it
                x = _standardize(self._mend(x, linked, name), linked)
            x = self._mend(x.float(), linked, name)
            if self.svt is not None:
                x = x.index_copy(0, linked, singular_value_threshold(x[linked], self.svt))
            data[name].x = x
        return data

    def _mend(self, x: Tensor, linked: Tensor, name: str) -> Tensor:
        finite = torch.isfinite(x)
        if bool(finite.all()):
            return x
        if self.nan == 'error':
            rows = (~finite).any(dim=1).nonzero().view(-1)
            raise DataError(
                f'graph: data[{name!r}].x has {rows.numel()} rows with NaN or infinity, the first '
                f'is row '
                f"{int(rows[0])}; accepted are finite features, or CleanFeatures(nan='zero') or "
                f"(nan='mean')"
            )
        zeroed = x.masked_fill(~finite, 0)
        if self.nan == 'zero':
            return zeroed
        count = finite[linked].sum(dim=0).clamp(min=1)
        mean = (
            torch.cat(
                [column.double().sum(dim=0) for column in zeroed[linked].split(_columns(x), dim=1)]
            )
            / count
        )
        return torch.where(finite, x, mean.to(x.dtype))


def _columns(x: Tensor) -> int:
    r"""Columns of ``x`` that are cast to float64 at a time."""
    return rows_per_block(x.size(0), x.size(1))


def _standardize(x: Tensor, linked: Tensor) -> Tensor:
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    if x.numel() == 0:
        return out
    for place, column in zip(out.split(_columns(x), dim=1), x.split(_columns(x), dim=1)):
        column = column.double()
        known = column[linked]
        largest = known.abs().amax(dim=0)
        # a square of what is left neither overflows nor vanishes
        scale = largest.masked_fill(largest == 0, 1)
        mean = (known / scale).mean(dim=0)
        deviation = (known / scale - mean).square().mean(dim=0).sqrt()
        # The mean of a constant column is rounded, so its deviation is tiny instead of zero.
        constant = deviation <= 8 * torch.finfo(torch.float64).eps
        place.copy_(
            ((column / scale - mean) / deviation.masked_fill(constant, 1)).masked_fill(constant, 0)
        )
    return out
