"""Graphs that several tests of models share."""
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import Triples

#: Users 0, 1 and items 0, 1 on the path u1 - i1 - u0 - i0.
PATH = TrainingGraph(2, 2, torch.tensor([[0, 0, 1], [0, 1, 1]]))

#: Triples of :func:`toy_data`; user 0 and item 2 occur twice.
BATCH = Triples(torch.tensor([0, 1, 4, 6, 0]), torch.tensor([0, 2, 2, 5, 1]), torch.tensor([3, 4, 5, 6, 4]))


def toy_data(num_modalities=2, held_out=None, partial=False):
    """Eight users and seven items, of which user 7 and item 6 have no training edge."""
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 8, 7
    train = torch.tensor([[0, 0, 1, 1, 2, 3, 4, 4, 5, 6], [0, 1, 1, 2, 3, 4, 0, 2, 5, 5]])
    held_out = torch.tensor([[0, 1, 2], [2, 3, 4]]) if held_out is None else held_out
    store = data['user', 'interacts', 'item']
    store.edge_index = torch.cat([train, held_out], dim=1)
    store.train_mask = torch.arange(13) < 10
    store.val_mask = torch.arange(13) == 10
    store.test_mask = torch.arange(13) > 10
    for name in ('image', 'text', 'audio')[:num_modalities]:
        count = 6 if partial else 7  # item 6 has nothing then
        data[name].x = torch.randn(count, 5, generator=generator)
        data['item', 'has', name].edge_index = torch.arange(count).expand(2, count).contiguous()
    return data


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
    """Loss of ``model`` on :data:`BATCH` with ``values`` in place of the parameters called ``names``."""
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
