"""Trains LightGCN on generated data next to popularity and lists recommendations of a user."""

import torch

from genrec_pyg import Trainer
from genrec_pyg.datasets import demo_graph
from genrec_pyg.evaluation import evaluate
from genrec_pyg.nn import LightGCN, Popularity


def main(epochs: int = 40) -> dict[str, float]:
    r"""Trains LightGCN on a generated graph and gives its test metrics."""
    data = demo_graph(num_users=300, num_items=200)
    torch.manual_seed(0)
    model = LightGCN(data, num_layers=2)
    result = Trainer(epochs=epochs, batch_size=2048, lr=1e-2, progress=False).fit(model, data)

    store = data['user', 'interacts', 'item']
    known = store.edge_index[1, store.edge_index[0] == 0]
    with torch.no_grad():
        scores = model.score(torch.tensor([0]))[0]
    scores[known] = -torch.inf
    print('items for user 0:', scores.topk(5).indices.tolist())
    return {
        'LightGCN': result.test['recall@20'],
        'Popularity': evaluate(Popularity(data), data)['recall@20'],
    }


if __name__ == '__main__':
    print(main())
