import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models.reference.neighborhood import NeighborhoodRecommender

GRAPH = TrainingGraph(2, 3, torch.tensor([[0, 0, 1], [0, 1, 2]]))
SIMILARITY = torch.tensor([[9.0, 3, 1], [4, 9, 2], [5, 6, 9]])


class Given(NeighborhoodRecommender):
    def __init__(self, k=1, shrink=0.0, block_size=2, **options):
        super().__init__(GRAPH, None, k, shrink, block_size)
        self.neighbors = self.nearest(lambda rows: SIMILARITY[rows], **options)


def test_scores_sum_the_similarities_to_the_history():
    """With one neighbor, w is 3 for (0, 1), 4 for (1, 0), and 6 for (2, 1)."""
    assert Given().score(torch.tensor([0, 1])).tolist() == [[3, 4, 6], [0, 0, 0]]
    assert Given(k=2).score(torch.tensor([0, 1])).tolist() == [[3, 4, 11], [1, 2, 0]]


def test_an_item_is_its_own_neighbor_if_wanted():
    assert Given(include_self=True).score(torch.tensor([0, 1])).tolist() == [[9, 9, 0], [0, 0, 9]]


@pytest.mark.parametrize('name, value', [('k', 0), ('block_size', 0), ('shrink', -0.5)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=f'{name}: got {value}, accepted are'):
        Given(**{name: value})
