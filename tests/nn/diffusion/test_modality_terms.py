import math

import pytest
import torch

from genrec_pyg.nn.diffusion.modality_terms import modality_contrast, signal_error
from genrec_pyg.nn.diffusion.states import ItemViews, SparseRows


def views(*parts):
    embedding = torch.cat([torch.eye(2)[:, :2] * scale for scale in parts], dim=1)
    return ItemViews(embedding, len(parts), torch.zeros(2))


def test_contrast_of_orthonormal_rows():
    """Each of two users meets his own row at 1 and the other at 0; a row without a one is left
    out, the scale of a view counts for nothing, and views add up.
    """
    rows = SparseRows.from_dense(torch.tensor([[1, 0], [0, 0], [0, 1]]))
    one = math.log(math.exp(1 / 0.5) + 1) - 1 / 0.5
    for given in (views(1.0), views(3.0)):
        profile = rows.dense().float() @ given.embedding
        assert float(modality_contrast(profile, rows, given, 0.5)) == pytest.approx(one, abs=1e-6)
    both = views(1.0, 2.0)
    found = modality_contrast(rows.dense().float() @ both.embedding, rows, both, 0.5)
    assert float(found) == pytest.approx(2 * one, abs=1e-6)


def test_contrast_without_a_one_is_zero_and_has_a_gradient():
    rows = SparseRows.from_dense(torch.zeros(2, 2, dtype=torch.long))
    profile = torch.ones(2, 2, requires_grad=True)
    modality_contrast(profile, rows, views(1.0)).backward()
    assert profile.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_signal_error_by_hand():
    given = ItemViews(
        torch.eye(2), 1, torch.zeros(2), torch.eye(2), torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    )
    rows = SparseRows.from_dense(torch.tensor([[1, 0]]))
    # (1, 2) of the estimate against (3, 0) of the item: (4 + 4) / 2
    assert float(signal_error(torch.tensor([[1.0, 2.0]]), rows, given)) == 4.0
