"""A model of one's own: LightGCN whose item rows are projected features. The trainer takes it as it
is.
"""

import torch

from genrec_pyg import Trainer
from genrec_pyg.datasets import demo_graph
from genrec_pyg.nn import LightConv, Recommender
from genrec_pyg.nn.interaction_graph import InteractionGraph
from genrec_pyg.nn.losses import bpr_loss


class ContentGCN(Recommender):
    """Users have rows of their own, items those of their features, and both are propagated."""

    def __init__(self, data, modality: str = 'image', channels: int = 32):
        super().__init__(data, modalities=[modality])
        link, x = data['item', 'has', modality].edge_index, data[modality].x
        features = torch.zeros(self.num_items, x.size(1)).index_add_(0, link[0], x[link[1]])
        self.register_buffer('features', features, persistent=False)
        self.user = torch.nn.Parameter(torch.empty(self.num_users, channels))
        self.projection = torch.nn.Linear(x.size(1), channels)
        self.interactions = InteractionGraph(self.graph)
        self.conv = LightConv(num_layers=2)
        self.reset_parameters()

    def reset_parameters(self):
        torch.nn.init.normal_(self.user, std=0.1)
        self.projection.reset_parameters()

    def embed(self):
        nodes = torch.cat([self.user, self.projection(self.features)])
        return self.conv(nodes, self.interactions.adjacency).split([self.num_users, self.num_items])

    def loss(self, batch):
        users, items = self.embed()
        return {'bpr': bpr_loss(users[batch.user], items[batch.pos], items[batch.neg])}


def main(epochs: int = 40) -> dict[str, float]:
    r"""Trains the model of this file and gives its test metrics."""
    data = demo_graph(num_users=300, num_items=200)
    torch.manual_seed(0)
    return (
        Trainer(epochs=epochs, batch_size=2048, lr=1e-2, progress=False)
        .fit(ContentGCN(data), data)
        .test
    )


if __name__ == '__main__':
    print(main())
