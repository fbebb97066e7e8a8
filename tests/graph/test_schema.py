import pytest
import torch
from torch_geometric.data import Data, HeteroData

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import (
    INTERACTS,
    Modality,
    check_graph,
    item_modality,
    modality_names,
    select_modalities,
    split_edges,
    training_graph,
)
from genrec_pyg.transforms import RandomSplit


def make_graph():
    # 3 users, 4 items; image one-to-one, text missing for item 1 and twofold for item 2.
    data = HeteroData()
    data['user'].num_nodes = 3
    data['item'].num_nodes = 4
    data[INTERACTS].edge_index = torch.tensor([[2, 0, 0, 1, 0, 2], [3, 1, 0, 2, 1, 0]])
    data[INTERACTS].train_mask = torch.tensor([True, True, True, False, True, False])
    data[INTERACTS].val_mask = torch.tensor([False, False, False, True, False, False])
    data[INTERACTS].test_mask = torch.tensor([False, False, False, False, False, True])
    data['image'].x = torch.arange(8.0).view(4, 2)
    data['item', 'has', 'image'].edge_index = torch.arange(4).repeat(2, 1)
    data['text'].x = torch.tensor([[1.0, 0.0], [2.0, 4.0], [4.0, 2.0], [5.0, 5.0]])
    data['item', 'has', 'text'].edge_index = torch.tensor([[2, 0, 2, 3], [1, 0, 2, 3]])
    return data


def test_training_graph_holds_distinct_sorted_training_edges():
    graph = training_graph(make_graph())
    assert (graph.num_users, graph.num_items, graph.num_edges) == (3, 4, 3)
    assert graph.edge_index.tolist() == [[0, 0, 2], [0, 1, 3]]  # the pair (0, 1) came twice
    assert graph.user_degree().tolist() == [2, 0, 1]
    assert graph.item_degree().tolist() == [1, 1, 0, 1]
    assert list(graph.modalities) == ['image', 'text']


def test_split_edges():
    data = make_graph()
    assert split_edges(data, 'val').tolist() == [[1], [2]]
    assert split_edges(data, 'test').tolist() == [[2], [0]]
    with pytest.raises(ConfigError, match="got 'dev', accepted are train, val, test"):
        split_edges(data, 'dev')
    del data[INTERACTS].val_mask
    with pytest.raises(DataError, match="has no 'val_mask'.*RandomSplit"):
        split_edges(data, 'val')


def test_identity_fast_path():
    image, text = training_graph(make_graph()).modalities.values()
    assert image.edge_index is None
    assert image.item_features() is image.x
    assert bool(image.present().all())
    assert text.edge_index is not None


def test_permuted_links_are_no_identity_but_give_the_same_rows():
    data = make_graph()
    permutation = torch.tensor([2, 0, 3, 1])
    expected = data['image'].x
    data['image'].x = expected[permutation]
    data['item', 'has', 'image'].edge_index = torch.stack([permutation, torch.arange(4)])
    image = item_modality(data, 'image')
    assert image.edge_index is not None
    assert torch.equal(image.item_features(), expected)


def test_identity_in_any_edge_order_and_with_duplicates():
    data = make_graph()
    data['item', 'has', 'image'].edge_index = torch.tensor([[3, 0, 1, 2, 0], [3, 0, 1, 2, 0]])
    assert item_modality(data, 'image').edge_index is None


def test_several_nodes_and_missing_modality():
    text = training_graph(make_graph(), ['text']).modalities['text']
    assert text.item_features().tolist() == [[1, 0], [0, 0], [3, 3], [5, 5]]
    assert text.present().tolist() == [True, False, True, True]


def test_duplicate_links_count_once():
    data = make_graph()
    data['item', 'has', 'text'].edge_index = torch.tensor([[2, 2, 2], [1, 1, 2]])
    assert item_modality(data, 'text').item_features()[2].tolist() == [3, 3]


def test_pool_is_differentiable():
    text = item_modality(make_graph(), 'text')
    z = torch.ones(4, 1, requires_grad=True)
    text.pool(z).sum().backward()
    assert z.grad.view(-1).tolist() == [1, 0.5, 0.5, 1]


def test_modality_selection_keeps_order():
    data = make_graph()
    assert modality_names(data) == ['image', 'text']
    assert select_modalities(data, ('text', 'image')) == ['text', 'image']
    assert list(training_graph(data, ['text', 'image']).modalities) == ['text', 'image']
    assert training_graph(data, []).modalities == {}
    with pytest.raises(ConfigError, match="no modality 'audio', accepted are image, text"):
        training_graph(data, ['image', 'audio'])


def test_features_become_float32():
    data = make_graph()
    data['image'].x = torch.full((4, 2), 60000.0, dtype=torch.float16)
    image = training_graph(data).modalities['image']
    assert image.x.dtype == torch.float32
    assert image.x.sum().item() == 480000  # overflows in float16


def test_held_out_edges_never_reach_the_training_graph():
    data, changed = make_graph(), make_graph()
    held_out = ~data[INTERACTS].train_mask
    changed[INTERACTS].edge_index = data[INTERACTS].edge_index.clone()
    changed[INTERACTS].edge_index[:, held_out] = torch.tensor([[0, 1], [3, 3]])
    before, after = training_graph(data), training_graph(changed)
    assert torch.equal(before.edge_index, after.edge_index)
    assert before.fingerprint() == after.fingerprint()

    without = make_graph()
    for key in ('edge_index', 'train_mask'):
        without[INTERACTS][key] = without[INTERACTS][key][..., ~held_out]
    del without[INTERACTS].val_mask, without[INTERACTS].test_mask
    assert training_graph(without).fingerprint() == before.fingerprint()


def test_fingerprint_tells_graphs_apart():
    data = make_graph()
    reference = training_graph(data).fingerprint()
    assert training_graph(make_graph()).fingerprint() == reference
    assert training_graph(data, ['image']).fingerprint() != reference
    data['item'].num_nodes = 5
    data['item', 'has', 'image'].edge_index = torch.arange(4).repeat(2, 1)
    assert training_graph(data).fingerprint() != reference
    data = make_graph()
    data[INTERACTS].train_mask[3], data[INTERACTS].val_mask[3] = True, False
    assert training_graph(data).fingerprint() != reference


def test_to_device_keeps_everything():
    graph = training_graph(make_graph())
    moved = graph.to(torch.device('cpu'))
    assert moved.fingerprint() == graph.fingerprint()
    assert isinstance(moved.modalities['text'], Modality)
    meta = graph.to(torch.device('meta'))
    assert meta.edge_index.is_meta and meta.modalities['text'].edge_index.is_meta


def test_isolated_users_and_items_are_legal():
    data = make_graph()
    data['user'].num_nodes = 10
    graph = training_graph(data)
    assert graph.user_degree().tolist() == [2, 0, 1] + [0] * 7


def broken(change):
    data = make_graph()
    change(data)
    return data


def set_store(store_type, key, value):
    def change(data):
        data[store_type][key] = value

    return change


def delete(store_type, key=None):
    def change(data):
        if key is None:
            del data[store_type]
        else:
            del data[store_type][key]

    return change


@pytest.mark.filterwarnings("ignore:Unable to accurately infer 'num_nodes'")
@pytest.mark.parametrize(
    'change, message',
    [
        (delete('user'), "node type 'user' with num_nodes is missing.*MapTypes"),
        (delete('item', 'num_nodes'), "node type 'item' with num_nodes is missing"),
        (delete(INTERACTS), 'is missing, found.*MapTypes'),
        (delete(INTERACTS, 'edge_index'), 'is missing'),
        (set_store('user', 'num_nodes', 2), 'user ids from 0 to 2, accepted are 0 to 1'),
        (set_store('item', 'num_nodes', 2), 'item ids from 0 to 3, accepted are 0 to 1'),
        (
            set_store(INTERACTS, 'edge_index', torch.tensor([[0, 0, 0, 0, 0, -1]] * 2)),
            'user ids from -1 to 0',
        ),
        (
            set_store(INTERACTS, 'edge_index', torch.zeros(2, 6, dtype=torch.int32)),
            'torch.int32.*accepted is torch.int64',
        ),
        (
            set_store(INTERACTS, 'edge_index', torch.zeros(6, 2, dtype=torch.long)),
            r'shape \(6, 2\)',
        ),
        (set_store(INTERACTS, 'train_mask', torch.ones(6)), 'train_mask is torch.float32'),
        (
            set_store(INTERACTS, 'val_mask', torch.zeros(5, dtype=torch.bool)),
            r'val_mask.*shape \(5,\).*\(6,\)',
        ),
        (
            set_store(INTERACTS, 'test_mask', torch.ones(6, dtype=torch.bool)),
            "are in 'test_mask' and in another split",
        ),
        (
            set_store(INTERACTS, 'train_mask', torch.zeros(6, dtype=torch.bool)),
            'training split of .* is empty',
        ),
        (delete(INTERACTS, 'train_mask'), "no 'train_mask'"),
        (delete('image', 'x'), r"data\['image'\].x is None, accepted is a floating-point matrix"),
        (delete('image'), r"data\['image'\].x is None"),
        (
            delete(('item', 'has', 'image'), 'edge_index'),
            r"\('item', 'has', 'image'\) has no edge_index",
        ),
        (set_store('image', 'x', torch.ones(4)), r'\(4,\)'),
        (set_store('image', 'x', torch.ones(4, 2, dtype=torch.long)), 'torch.int64'),
        (
            set_store('image', 'x', torch.ones(3, 2)),
            r"'image'\).edge_index has image ids from 0 to 3, accepted are 0 to 2",
        ),
        (
            set_store(
                'text',
                'x',
                torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, float('nan')], [float('inf'), 0.0]]),
            ),
            'has 2 rows with NaN or infinity, the first is row 2.*CleanFeatures',
        ),
        (
            set_store(('item', 'has', 'text'), 'edge_index', torch.tensor([[4], [0]])),
            'item ids from 4 to 4',
        ),
    ],
)
def test_errors_name_the_store_the_value_and_what_is_accepted(change, message):
    with pytest.raises(DataError, match=message):
        training_graph(broken(change))


def test_check_graph_without_finite_features():
    data = broken(set_store('image', 'x', torch.full((4, 2), float('nan'))))
    check_graph(data, finite=False)
    with pytest.raises(DataError, match='4 rows'):
        check_graph(data)


def test_the_same_pair_in_two_splits_is_refused_though_the_edges_differ():
    data = make_graph()
    data[INTERACTS].edge_index[:, 5] = torch.tensor([0, 1])  # the test edge repeats a training pair
    with pytest.raises(
        DataError, match=r"1 pairs .* user 0 with item 1, in 'train_mask' and 'test_mask'"
    ):
        training_graph(data)
    check_graph(data, disjoint=False)
    split = RandomSplit(val=0.2, test=0.2)(data)  # and can be split again
    training_graph(split)


def test_a_pair_may_be_repeated_within_a_split_and_outside_all():
    data = make_graph()
    store = data[INTERACTS]
    store.edge_index = torch.cat([store.edge_index, torch.tensor([[2, 2, 0], [0, 0, 1]])], dim=1)
    for split in ('train', 'val', 'test'):
        more = torch.tensor([split == 'test', False, False])
        store[f'{split}_mask'] = torch.cat([store[f'{split}_mask'], more])
    assert training_graph(data).num_edges == 3


def test_a_data_set_or_a_homogeneous_graph_is_refused_by_name():
    for other in (Data(), [make_graph()], None):
        with pytest.raises(
            DataError, match=f'got {type(other).__name__}, accepted is a .*HeteroData'
        ):
            training_graph(other)


@pytest.mark.parametrize('store', ['user', 'item'])
def test_raw_ids_of_another_number_than_the_nodes_are_refused(store):
    data = broken(set_store(store, 'raw_id', list(range(9))))
    with pytest.raises(
        DataError, match=rf"data\['{store}'\].raw_id has 9 entries, accepted is one per node"
    ):
        training_graph(data)


def test_features_that_overflow_the_models_precision_are_refused():
    data = make_graph()
    data['image'].x = data['image'].x.double() * 1e39
    with pytest.raises(DataError, match='has 4 rows with NaN or infinity.*float32'):
        training_graph(data)
    data['image'].x = data['image'].x * 1e-39
    assert bool(training_graph(data).modalities['image'].x.isfinite().all())


def test_one_name_is_a_list_of_one_and_a_repeated_name_counts_once():
    data = make_graph()
    assert list(training_graph(data, 'text').modalities) == ['text']
    assert select_modalities(data, ['text', 'image', 'text']) == ['text', 'image']


@pytest.mark.parametrize('name', ['user', 'item'])
def test_users_and_items_are_no_modalities(name):
    data = broken(
        set_store(('item', 'has', name), 'edge_index', torch.zeros(2, 1, dtype=torch.long))
    )
    with pytest.raises(DataError, match=f"makes '{name}' a modality"):
        training_graph(data)


def test_features_without_a_column_are_refused():
    with pytest.raises(DataError, match=r"data\['image'\].x has no column"):
        training_graph(broken(set_store('image', 'x', torch.empty(4, 0))))
