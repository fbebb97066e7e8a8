r"""How different the items of a list are in what they show and say."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from genrec_pyg.evaluation.lists import Lists

#: Entries of features that are gathered at a time.
_ENTRIES = 1 << 24


def diversity(lists: Lists, label: Tensor) -> dict[str, Tensor]:
    r"""Intra-list diversity per modality: one minus the mean cosine similarity of two items of a
    list, over the items that have the modality (`Ziegler et al., WWW 2005
    <https://doi.org/10.1145/1060745.1060754>`_). NaN where fewer than two have it.

    With rows of unit length the sum over all pairs follows from the sum of the rows, so a list
    costs as much as its items and not as its pairs.
    """
    found = {}
    for name, modality in lists.graph.modalities.items():
        rows = normalize(modality.item_features().float(), dim=1)
        rows = torch.cat([rows, rows.new_zeros(1, rows.size(1))])  # padding
        has = rows.any(dim=1)
        block = max(1, _ENTRIES // max(lists.item.size(1) * rows.size(1), 1))
        values = []
        for item in lists.item.split(block):
            count = has[item].sum(dim=1).double()
            squared = rows[item].sum(dim=1).double().square().sum(dim=1)
            pairs = count * (count - 1)
            similarity = (squared - count) / pairs.clamp(min=1)
            values.append(torch.where(pairs > 0, 1 - similarity, float('nan')))
        found[name] = torch.cat(values)
    return found
