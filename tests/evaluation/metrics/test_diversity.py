import pytest
import torch
from helpers.listed import LABEL, make

from genrec_pyg.evaluation.metrics.diversity import diversity


def test_diversity_is_one_minus_the_mean_over_pairs():
    torch.manual_seed(0)
    x = torch.randn(5, 7)
    x[4] = 0  # an item without the modality
    found = diversity(make([[0, 1, 2], [3, 4, 5], [0, 4, 1]], image=x.tolist()), LABEL)['image']
    cosine = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2)
    expected = 1 - (cosine[0, 1] + cosine[0, 2] + cosine[1, 2]) / 3
    assert float(found[0]) == pytest.approx(float(expected), abs=1e-6)
    assert bool(found[1].isnan()) and float(found[2]) == pytest.approx(
        float(1 - cosine[0, 1]), abs=1e-6
    )
    assert diversity(make([[0, 1]]), LABEL) == {}
