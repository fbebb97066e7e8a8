import torch
import torch_geometric.transforms as T
from torch_geometric.data import HeteroData

from genrec_pyg.graph import INTERACTS, split_edges, training_graph
from genrec_pyg.transforms import ItemKNNGraph, KCore, LeaveOneOut, MapTypes, RandomSplit


def movie_lens(num_users=60, num_movies=40, num_edges=900):
    r"""The schema of PyG's MovieLens after ``ToUndirected``."""
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data['user'].num_nodes = num_users
    data['movie'].x = torch.rand(num_movies, 8, generator=generator)
    edge_index = torch.stack(
        [
            torch.randint(num_users, (num_edges,), generator=generator),
            torch.randint(num_movies, (num_edges,), generator=generator),
        ]
    )
    data['user', 'rates', 'movie'].edge_index = edge_index
    data['user', 'rates', 'movie'].rating = torch.randint(1, 6, (num_edges,), generator=generator)
    data['user', 'rates', 'movie'].time = torch.randint(10**9, (num_edges,), generator=generator)
    data['movie', 'rev_rates', 'user'].edge_index = edge_index.flip([0])
    return data


def test_movie_lens_schema_end_to_end():
    data = movie_lens()
    transform = T.Compose(
        [MapTypes(item='movie'), KCore(5), RandomSplit(seed=1), ItemKNNGraph(k=4)]
    )
    out = transform(data)
    graph = training_graph(out)
    assert list(graph.modalities) == ['content']
    assert graph.modalities['content'].edge_index is None
    assert graph.num_items == out['content'].x.size(0) == out['item'].num_nodes
    assert out['item', 'content_knn', 'item'].edge_index.size(1) == 4 * graph.num_items
    held_out = {
        tuple(pair) for split in ('val', 'test') for pair in split_edges(out, split).t().tolist()
    }
    assert held_out and held_out.isdisjoint(map(tuple, graph.edge_index.t().tolist()))
    assert int(graph.user_degree().min()) >= 1
    assert data.node_types == ['user', 'movie'] and len(data.edge_types) == 2


def test_removing_held_out_edges_changes_no_training_graph():
    out = T.Compose([MapTypes(item='movie'), LeaveOneOut()])(movie_lens())
    fingerprint = training_graph(out).fingerprint()
    train = out[INTERACTS].train_mask
    for key in list(out[INTERACTS].keys()):
        out[INTERACTS][key] = out[INTERACTS][key][..., train]
    assert training_graph(out).fingerprint() == fingerprint
