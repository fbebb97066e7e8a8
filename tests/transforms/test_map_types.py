import logging

import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import RandomLinkSplit

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, check_graph, modality_names, split_edges, training_graph
from genrec_pyg.transforms import MapTypes, RandomSplit

EDGES = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 2]])


def movie_lens():
    r"""The schema of torch_geometric.datasets.MovieLens100K without its test links."""
    data = HeteroData()
    data.name = 'movies'
    data['movie'].x = torch.randn(4, 5)
    data['user'].x = torch.randn(3, 2)
    data['user', 'rates', 'movie'].edge_index = EDGES
    data['user', 'rates', 'movie'].rating = torch.tensor([5, 3, 1, 4])
    data['user', 'rates', 'movie'].time = torch.tensor([1, 2, 3, 4])
    data['movie', 'rated_by', 'user'].edge_index = EDGES.flip([0])
    return data


def amazon_book():
    data = HeteroData()
    data['user'].num_nodes = 3
    data['book'].num_nodes = 4
    data['user', 'rates', 'book'].edge_index = EDGES
    data['user', 'rates', 'book'].edge_label_index = torch.tensor([[1, 0], [3, 2]])
    data['book', 'rated_by', 'user'].edge_index = EDGES.flip([0])
    return data


def taobao():
    data = HeteroData()
    data['user'].num_nodes = 3
    data['item'].num_nodes = 3
    data['category'].num_nodes = 2
    data['user', 'item'].edge_index = EDGES
    data['user', 'item'].time = torch.tensor([4, 3, 2, 1])
    data['user', 'item'].behavior = torch.tensor([0, 0, 2, 1])
    data['item', 'category'].edge_index = torch.tensor([[0, 1, 2], [0, 0, 1]])
    return data


def test_movie_lens_schema():
    data = movie_lens()
    out = MapTypes(item='movie')(data)
    check_graph(out)
    assert out.node_types == ['user', 'item', 'content']
    assert out.edge_types == [INTERACTS, ('item', 'has', 'content')]  # no reverse edges
    assert (out['user'].num_nodes, out['item'].num_nodes) == (3, 4)
    assert torch.equal(out[INTERACTS].edge_index, EDGES)
    assert out[INTERACTS].rating.tolist() == [5, 3, 1, 4]
    assert out[INTERACTS].time.tolist() == [1, 2, 3, 4]
    assert out.name == 'movies'
    assert out['user'].x is data['user'].x
    assert 'x' not in out['item']
    graph = training_graph(RandomSplit(0, 0)(out))
    assert graph.modalities['content'].edge_index is None
    assert torch.equal(graph.modalities['content'].x, data['movie'].x)


def test_input_is_unchanged():
    data = movie_lens()
    before = {(store._key, key): value for store in data.stores for key, value in store.items()}
    MapTypes(item='movie')(data)
    after = {(store._key, key): value for store in data.stores for key, value in store.items()}
    assert before.keys() == after.keys() and all(before[key] is after[key] for key in before)


def test_amazon_book_schema():
    out = MapTypes(item='book')(amazon_book())
    store = out[INTERACTS]
    assert store.edge_index.tolist() == [[0, 0, 1, 2, 1, 0], [0, 1, 1, 2, 3, 2]]
    assert store.train_mask.tolist() == [True] * 4 + [False] * 2
    assert store.test_mask.tolist() == [False] * 4 + [True] * 2
    assert 'val_mask' not in store and 'edge_label_index' not in store
    assert modality_names(out) == []
    assert training_graph(out).num_edges == 4
    out = RandomSplit(0.2, None)(out)
    assert out[INTERACTS].test_mask.tolist() == [False] * 4 + [True] * 2


def test_label_split_choices():
    out = MapTypes(item='book', label_split='val')(amazon_book())
    assert out[INTERACTS].val_mask.tolist() == [False] * 4 + [True] * 2
    out = MapTypes(item='book', label_split=None)(amazon_book())
    assert set(out[INTERACTS].keys()) == {'edge_index'}
    with pytest.raises(ConfigError, match="label_split: got 'dev'"):
        MapTypes(label_split='dev')


def test_label_links_join_existing_masks():
    data = amazon_book()
    data['user', 'rates', 'book'].val_mask = torch.tensor([False, True, False, False])
    out = MapTypes(item='book')(data)
    assert out[INTERACTS].train_mask.tolist() == [True, False, True, True, False, False]
    assert out[INTERACTS].val_mask.tolist() == [False, True, False, False, False, False]
    assert out[INTERACTS].test_mask.tolist() == [False] * 4 + [True] * 2


def test_label_links_without_negatives_and_without_leak(caplog):
    data = amazon_book()
    store = data['user', 'rates', 'book']
    store.edge_label_index = torch.tensor([[1, 0, 2, 2], [3, 0, 1, 2]])
    # the third is a negative, two are training edges
    store.edge_label = torch.tensor([1.0, 1.0, 0.0, 1.0])
    with caplog.at_level(logging.WARNING):
        out = MapTypes(item='book')(data)
    assert out[INTERACTS].edge_index[:, out[INTERACTS].test_mask].tolist() == [[1], [3]]
    assert 'Dropped 2 of 3 links in edge_label_index that are also in edge_index' in caplog.text


def test_attributes_that_label_links_lack_are_dropped_aloud(caplog):
    data = amazon_book()
    data['user', 'rates', 'book'].time = torch.arange(4)
    with caplog.at_level(logging.WARNING):
        out = MapTypes(item='book')(data)
    assert 'time' not in out[INTERACTS] and 'Dropped the edge attributes time' in caplog.text
    assert 'time' in MapTypes(item='book', label_split=None)(data)[INTERACTS]


def test_edge_label_without_links_is_an_attribute():
    data = movie_lens()
    # as in torch_geometric.datasets.MovieLens
    data['user', 'rates', 'movie'].edge_label = torch.tensor([1, 2, 3, 4])
    assert MapTypes(item='movie')(data)[INTERACTS].edge_label.tolist() == [1, 2, 3, 4]


def test_taobao_schema():
    out = MapTypes()(taobao())
    check_graph(out)
    assert torch.equal(out[INTERACTS].edge_index, EDGES)
    assert out[INTERACTS].behavior.tolist() == [0, 0, 2, 1]
    assert out['item', 'to', 'category'].edge_index.size(1) == 3
    assert modality_names(out) == []


def test_category_features_become_a_modality():
    data = taobao()
    data['category'].x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for modalities, name in (
        (['category'], 'category'),
        ({'kind': 'to'}, 'kind'),
        ({'kind': ('item', 'to', 'category')}, 'kind'),
    ):
        out = MapTypes(modalities=modalities)(data)
        assert out.node_types == ['user', 'item', name]
        assert out.edge_types == [INTERACTS, ('item', 'has', name)]
        features = training_graph(RandomSplit(0, 0)(out)).modalities[name].item_features()
        assert features.tolist() == [[1, 0], [1, 0], [0, 1]]
    with pytest.raises(DataError, match="modality 'category' needs features x"):
        MapTypes(modalities=['category'])(taobao())


def test_two_relations_to_one_node_type():
    data = taobao()
    data['category'].x = torch.eye(2)
    data['item', 'second', 'category'].edge_index = torch.tensor([[0], [1]])
    out = MapTypes(modalities={'kind': 'to', 'other': 'second'})(data)
    assert modality_names(out) == ['kind', 'other']
    assert out['item', 'has', 'other'].edge_index.tolist() == [[0], [1]]
    with pytest.raises(ConfigError, match="'category' matches .*accepted is one edge type"):
        MapTypes(modalities=['category'])(data)


def test_existing_modalities_stay():
    data = movie_lens()
    data['poster'].x = torch.randn(2, 3, dtype=torch.float64)
    data['movie', 'has', 'poster'].edge_index = torch.tensor([[0, 1], [1, 0]])
    out = MapTypes(item='movie', item_x='genre')(data)
    assert modality_names(out) == ['poster', 'genre']
    assert out['poster'].x.dtype == torch.float32
    out = MapTypes(item='movie', item_x=None, modalities={'image': 'has'})(data)
    assert modality_names(out) == ['image'] and 'x' in out['item']


def test_canonical_graph_maps_to_itself():
    out = MapTypes(item='movie')(movie_lens())
    out['item', 'content_knn', 'item'].edge_index = torch.tensor([[0, 1], [1, 0]])
    again = MapTypes()(out)
    assert again.node_types == out.node_types and set(again.edge_types) == set(out.edge_types)
    assert again['content'].x is out['content'].x


def test_other_types_follow_the_new_names():
    data = movie_lens()
    data['user', 'trusts', 'user'].edge_index = torch.tensor([[0], [1]])
    data['actor'].num_nodes = 2
    data['actor', 'in', 'movie'].edge_index = torch.tensor([[1], [3]])
    out = MapTypes(item='movie')(data)
    assert ('user', 'trusts', 'user') in out.edge_types and (
        'actor',
        'in',
        'item',
    ) in out.edge_types
    assert out['actor'].num_nodes == 2


def test_numbers_of_nodes_are_inferred():
    data = HeteroData()
    data['customer', 'buys', 'product'].edge_index = torch.tensor(
        [[0, 4], [2, 1]], dtype=torch.int32
    )
    out = MapTypes('customer', 'product', 'buys')(data)
    assert (out['user'].num_nodes, out['item'].num_nodes) == (5, 3)
    assert out[INTERACTS].edge_index.dtype == torch.long


def test_raw_ids_stay():
    data = movie_lens()
    data['user'].raw_id = ['a', 'b', 'c']
    data['movie'].raw_id = torch.tensor([7, 8, 9, 10])
    out = MapTypes(item='movie')(data)
    assert out['user'].raw_id == ['a', 'b', 'c'] and out['item'].raw_id.tolist() == [7, 8, 9, 10]


def test_relation_is_chosen():
    data = movie_lens()
    data['user', 'views', 'movie'].edge_index = torch.tensor([[0], [3]])
    with pytest.raises(
        ConfigError,
        match="rel: one relation from 'user' to 'movie' is needed, found .*'rates'.*'views'",
    ):
        MapTypes(item='movie')(data)
    for rel in ('views', ('user', 'views', 'movie')):
        out = MapTypes(item='movie', rel=rel)(data)
        assert out[INTERACTS].edge_index.tolist() == [[0], [3]]
        assert ('user', 'rates', 'item') in out.edge_types
    data['user', 'interacts', 'movie'].edge_index = EDGES
    assert MapTypes(item='movie')(data)[INTERACTS].edge_index.size(1) == 4
    with pytest.raises(ConfigError, match='remove or rename it first'):
        MapTypes(item='movie', rel='views')(data)


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({}, r"item: the graph has no node type 'item', found \['movie', 'user'\]"),
        ({'user': 'customer'}, "user: the graph has no node type 'customer'"),
        (
            {'item': 'movie', 'rel': 'buys'},
            "rel: the relation 'buys' from 'user' to 'movie' is needed, found .*'rates'",
        ),
        ({'item': 'movie', 'modalities': ['poster']}, "modalities: 'poster' matches no edge type"),
        (
            {'item': 'movie', 'modalities': {'poster': 'shows'}},
            "modalities: 'poster' matches no edge type",
        ),
        ({'item': 'movie', 'item_x': 'user'}, "item_x: the graph has a node type 'user' already"),
    ],
)
def test_names_that_are_not_there(arguments, message):
    with pytest.raises(ConfigError, match=message):
        MapTypes(**arguments)(movie_lens())


def test_bad_arguments():
    with pytest.raises(ConfigError, match="user and item: got 'x' for both"):
        MapTypes('x', 'x')
    with pytest.raises(ConfigError, match="modalities: got 'image'"):
        MapTypes(modalities='image')


def test_a_foreign_item_type_is_refused():
    data = movie_lens()
    data['item'].num_nodes = 2
    with pytest.raises(ConfigError, match="node type 'item' of another meaning"):
        MapTypes(item='movie')(data)


def test_bad_data():
    data = movie_lens()
    data['movie'].num_nodes = 6
    with pytest.raises(
        DataError, match=r"data\['movie'\].x has 4 rows, accepted is one per item \(6\)"
    ):
        MapTypes(item='movie')(data)
    data = movie_lens()
    data['user'].num_nodes = 2
    with pytest.raises(DataError, match='user ids from 0 to 2'):
        MapTypes(item='movie')(data)
    data = movie_lens()
    del data['user', 'rates', 'movie'].edge_index
    with pytest.raises(DataError, match=r'has no edge_index \[2, E\], found .*rating'):
        MapTypes(item='movie')(data)
    data = movie_lens()
    data['movie'].x = torch.ones(4)
    with pytest.raises(
        DataError, match=r"modality 'content' needs features x \[num_nodes, d\], found \(4,\)"
    ):
        MapTypes(item='movie')(data)


def test_integer_features_become_float32():
    data = movie_lens()
    data['movie'].x = torch.eye(4, dtype=torch.long)
    assert MapTypes(item='movie')(data)['content'].x.dtype == torch.float32


@pytest.mark.parametrize('split_labels', [False, True])
def test_splits_of_pyg_give_the_held_out_links(split_labels):
    torch.manual_seed(0)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 20, 15
    data['user', 'interacts', 'item'].edge_index = (
        (torch.rand(20, 15) < 0.4).nonzero().t().contiguous()
    )
    split = RandomLinkSplit(
        num_val=0.1,
        num_test=0.2,
        edge_types=[('user', 'interacts', 'item')],
        rev_edge_types=[None],
        split_labels=split_labels,
    )
    train, _, test = split(data)
    store = test['user', 'interacts', 'item']
    links = (
        store.pos_edge_label_index
        if split_labels
        else store.edge_label_index[:, store.edge_label > 0]
    )
    out = MapTypes()(test)
    assert sorted(split_edges(out, 'test').t().tolist()) == sorted(links.t().tolist())
    assert split_edges(out, 'train').size(1) == store.edge_index.size(1)
    assert not [key for key in out['user', 'interacts', 'item'].keys() if 'label' in key]
