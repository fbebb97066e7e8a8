"""Trains GenRec on a graph of one's own: movies with features, rated by users."""

import torch
from torch_geometric.data import HeteroData

from genrec_pyg import Trainer
from genrec_pyg import transforms as T
from genrec_pyg.datasets import demo_graph
from genrec_pyg.nn import GenRec


def movies() -> HeteroData:
    """Stands for your data: the schema of PyG's MovieLens, filled from the generated dataset."""
    demo = demo_graph(num_users=200, num_items=120)
    has = demo['item', 'has', 'image'].edge_index
    features = torch.zeros(demo['item'].num_nodes, demo['image'].x.size(1))
    features[has[0]] = demo['image'].x[has[1]]
    data = HeteroData()
    data['user'].num_nodes = demo['user'].num_nodes
    data['movie'].x = features
    data['user', 'rates', 'movie'].edge_index = demo['user', 'interacts', 'item'].edge_index
    return data


def main(epochs: int = 10) -> dict[str, float]:
    r"""Trains GenRec on the graph of films and gives its test metrics."""
    data = T.MapTypes(user='user', item='movie', rel='rates', item_x='content')(movies())
    data = T.RandomSplit(val=0.1, test=0.1, seed=0)(T.KCore(5)(data))
    torch.manual_seed(0)
    model = GenRec(data, debias={'clusters': 10})
    return Trainer(epochs=epochs, batch_size=2048, lr=2e-3, progress=False).fit(model, data).test


if __name__ == '__main__':
    print(main())
