"""Graphs that several tests of models share."""

import torch

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.testing import toy_graph as toy_data  # noqa: F401  for the tests of models

#: Users 0, 1 and items 0, 1 on the path u1 - i1 - u0 - i0.
PATH = TrainingGraph(2, 2, torch.tensor([[0, 0, 1], [0, 1, 1]]))

#: Triples of :func:`genrec_pyg.testing.toy_graph`; user 0 and item 2 occur twice.
BATCH = Triples(
    torch.tensor([0, 1, 4, 6, 0]), torch.tensor([0, 2, 2, 5, 1]), torch.tensor([3, 4, 5, 6, 4])
)


def small_genrec(denoiser='linear', **groups):
    """Small and quick settings of GenRec with every denoiser; ``groups`` wins."""
    sizes = {
        'linear': {'rank': 6},
        'transformer': {'num_layers': 1},
        'tied': {'num_layers': 1},
        'perceptron': {},
    }
    settings = {
        'hidden_channels': 8,
        'denoiser': {'name': denoiser, **sizes[denoiser]},
        'debias': {'clusters': 2},
        'generation': {'topk': 3, 'rebuild_k': 2},
    }
    for name, value in groups.items():
        settings[name] = (
            {**settings[name], **value} if isinstance(settings.get(name), dict) else value
        )
    return settings


def train_steps(model, steps=3):
    """Trains on :data:`BATCH`, a step an epoch; returns the model in evaluation mode."""
    optimizer = torch.optim.Adam(model.trained_parameters(), lr=1e-2)
    model.train()
    for epoch in range(steps):
        model.start_epoch(epoch)
        optimizer.zero_grad()
        sum(model.loss(BATCH).values()).backward()
        optimizer.step()
    return model.eval()


def loss_of(model, names, values):
    """Loss of ``model`` on :data:`BATCH` with ``values`` in place of the parameters called
    ``names``.
    """

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            return sum(self.model.loss(BATCH).values())

    return torch.func.functional_call(Loss(), {f'model.{n}': v for n, v in zip(names, values)}, ())


def set_tables(model, users, items):
    """Replaces the tables of a model in double precision."""
    model.double()
    with torch.no_grad():
        model.embedding.user.copy_(torch.as_tensor(users, dtype=torch.float64))
        model.embedding.item.copy_(torch.as_tensor(items, dtype=torch.float64))
    return model
