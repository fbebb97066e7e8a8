import pytest
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS
from genrec_pyg.transforms import ItemKNNGraph


def make_graph():
    data = HeteroData()
    data['user'].num_nodes = 1
    data['item'].num_nodes = 30
    data[INTERACTS].edge_index = torch.zeros(2, 1, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    data['image'].x = torch.rand(30, 6, generator=generator)
    data['item', 'has', 'image'].edge_index = torch.arange(30).repeat(2, 1)
    # text: item 0 has nodes 0 and 1, item 29 none, the others one
    data['text'].x = torch.rand(30, 4, generator=generator)
    data['item', 'has', 'text'].edge_index = torch.stack(
        [torch.arange(-1, 29).clamp(min=0), torch.arange(30)]
    )
    return data


def dense(store, num_items=30):
    out = torch.zeros(num_items, num_items)
    out[store.edge_index[0], store.edge_index[1]] = store.edge_weight
    return out


def reference(x, k):
    unit = torch.nn.functional.normalize(x, dim=1)
    similarity = unit @ unit.t()
    kept = torch.zeros_like(similarity).scatter(1, similarity.topk(k).indices, 1.0) * similarity
    degree = kept.sum(dim=1)
    return kept / (degree[:, None] * degree[None, :]).sqrt()


@pytest.mark.parametrize('block_size', [7, 1024])
def test_equals_the_dense_formula(block_size):
    data = make_graph()
    out = ItemKNNGraph(k=5, block_size=block_size)(data)
    assert torch.allclose(
        dense(out['item', 'image_knn', 'item']), reference(data['image'].x, 5), atol=1e-6
    )
    assert ('item', 'image_knn', 'item') not in data.edge_types  # the input is untouched


def test_several_nodes_are_averaged_and_missing_ones_see_only_themselves():
    data = make_graph()
    out = ItemKNNGraph(k=3)(data)['item', 'text_knn', 'item']
    x = torch.cat([data['text'].x[:2].mean(dim=0, keepdim=True), data['text'].x[2:]])
    assert torch.allclose(dense(out)[:29, :29], reference(x, 3), atol=1e-6)
    row, col = out.edge_index
    assert col[row == 29].tolist() == [29] and row[col == 29].tolist() == [29]
    assert bool(torch.isfinite(out.edge_weight).all())


def test_only_named_modalities():
    out = ItemKNNGraph(modalities=['text'])(make_graph())
    assert [rel for _, rel, _ in out.edge_types] == ['interacts', 'has', 'has', 'text_knn']
    with pytest.raises(ConfigError, match="no modality 'audio', accepted are image, text"):
        ItemKNNGraph(modalities=['audio'])(make_graph())


def test_features_must_be_finite():
    data = make_graph()
    data['image'].x[3, 0] = float('nan')
    with pytest.raises(DataError, match='the first is row 3'):
        ItemKNNGraph()(data)


@pytest.mark.parametrize('arguments', [{'k': 0}, {'k': 2.5}, {'block_size': 0}])
def test_bad_arguments(arguments):
    with pytest.raises(ConfigError, match='accepted is a positive integer'):
        ItemKNNGraph(**arguments)
