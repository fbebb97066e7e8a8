import torch

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models import Popularity


def test_score_counts_distinct_training_users():
    model = Popularity(TrainingGraph(3, 4, torch.tensor([[0, 1, 2, 0], [1, 1, 1, 3]])))
    assert model.score(torch.tensor([2, 0])).tolist() == [[0, 3, 0, 1]] * 2
    assert not model.trainable and list(model.trained_parameters()) == []
