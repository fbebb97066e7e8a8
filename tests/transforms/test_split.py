import copy

import pytest
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, SPLITS
from genrec_pyg.transforms import ColdItemSplit, LeaveOneOut, RandomSplit, TemporalSplit, UserSplit


def make_graph(edge_index, num_users=None, num_items=None, time=None):
    data = HeteroData()
    data['user'].num_nodes = int(edge_index[0].max()) + 1 if num_users is None else num_users
    data['item'].num_nodes = int(edge_index[1].max()) + 1 if num_items is None else num_items
    data[INTERACTS].edge_index = edge_index
    if time is not None:
        data[INTERACTS].time = time
    return data


def random_graph(num_users=200, num_items=40, num_edges=3000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.stack(
        [
            torch.randint(num_users, (num_edges,), generator=generator),
            torch.randint(num_items, (num_edges,), generator=generator),
        ]
    )
    return make_graph(
        edge_index,
        num_users + 2,
        num_items,
        time=torch.randint(500, (num_edges,), generator=generator),
    )


def masks(data):
    return torch.stack([data[INTERACTS][f'{split}_mask'] for split in SPLITS])


def pair_splits(data):
    out = {}
    for split in SPLITS:
        for pair in data[INTERACTS].edge_index[:, data[INTERACTS][f'{split}_mask']].t().tolist():
            out.setdefault(tuple(pair), set()).add(split)
    return out


ALL = [
    RandomSplit(),
    RandomSplit(0.3, 0.4, seed=5),
    LeaveOneOut(),
    LeaveOneOut(seed=1),
    TemporalSplit(0.2, 0.2),
    ColdItemSplit(0.2, 0.3),
]


@pytest.mark.parametrize('transform', ALL, ids=repr)
def test_every_edge_has_one_split_and_pairs_stay_together(transform):
    data = random_graph()
    before = copy.deepcopy(data)
    out = transform(data)
    assert bool((masks(out).sum(dim=0) == 1).all())
    assert all(len(splits) == 1 for splits in pair_splits(out).values())
    # Edges and attributes keep their place, the input has no masks.
    assert torch.equal(out[INTERACTS].edge_index, before[INTERACTS].edge_index)
    assert torch.equal(out[INTERACTS].time, before[INTERACTS].time)
    assert set(data[INTERACTS].keys()) == {'edge_index', 'time'}


@pytest.mark.parametrize(
    'transform', [t for t in ALL if not isinstance(t, (TemporalSplit, ColdItemSplit))], ids=repr
)
def test_every_user_keeps_a_training_edge(transform):
    out = transform(random_graph(num_edges=500))
    user = out[INTERACTS].edge_index[0]
    assert set(user[out[INTERACTS].train_mask].tolist()) == set(user.tolist())


def test_random_split_shares():
    data = random_graph(num_users=1000, num_edges=7000)
    out = pair_splits(RandomSplit(0.1, 0.2)(data))
    counts = {
        split: sum(splits == {split} for splits in out.values()) / len(out) for split in SPLITS
    }
    assert counts['val'] == pytest.approx(0.1, abs=0.01)
    assert counts['test'] == pytest.approx(0.2, abs=0.01)


def test_random_split_counts_per_user():
    # Whole products leave nothing to chance: 20 items give 2 and 4.
    edge_index = torch.stack([torch.arange(3).repeat_interleave(20), torch.arange(20).repeat(3)])
    out = RandomSplit(0.1, 0.2, seed=3)(make_graph(edge_index))
    for mask, count in ((out[INTERACTS].val_mask, 2), (out[INTERACTS].test_mask, 4)):
        assert torch.bincount(edge_index[0][mask]).tolist() == [count] * 3
    items = [
        edge_index[1][out[INTERACTS].test_mask & (edge_index[0] == user)].tolist()
        for user in range(3)
    ]
    assert items[0] != items[1] or items[1] != items[2]


def test_random_split_is_a_function_of_seed_and_pairs():
    data = random_graph()
    reference = pair_splits(RandomSplit(seed=1)(data))
    state = torch.get_rng_state()
    assert pair_splits(RandomSplit(seed=1)(data)) == reference
    assert torch.equal(state, torch.get_rng_state())
    assert pair_splits(RandomSplit(seed=2)(data)) != reference
    order = torch.randperm(data[INTERACTS].edge_index.size(1))
    shuffled = make_graph(
        data[INTERACTS].edge_index[:, order], data['user'].num_nodes, data['item'].num_nodes
    )
    assert pair_splits(RandomSplit(seed=1)(shuffled)) == reference


def test_random_split_high_shares_keep_one():
    edge_index = torch.stack([torch.zeros(6, dtype=torch.long), torch.arange(6)])
    out = RandomSplit(0.49, 0.5)(make_graph(edge_index))
    assert out[INTERACTS].train_mask.sum() >= 1
    single = RandomSplit(0.49, 0.5)(make_graph(torch.tensor([[0], [0]])))
    assert single[INTERACTS].train_mask.tolist() == [True]


def test_keeping_the_test_mask():
    data = RandomSplit(0.0, 0.3)(random_graph())
    test_mask = data[INTERACTS].test_mask
    for transform in (RandomSplit(0.2, None), TemporalSplit(0.2, None)):
        out = transform(data)
        assert torch.equal(out[INTERACTS].test_mask, test_mask)
        share = out[INTERACTS].val_mask.sum() / (~test_mask).sum()
        assert float(share) == pytest.approx(0.2, abs=0.03)
        with pytest.raises(DataError, match="no 'test_mask' to keep"):
            transform(random_graph())


def test_leave_one_out_by_time():
    # User 0: items 0 1 2 3 at times 4 3 2 1; user 1 has two items; user 2 three, item 0 again at
    # last.
    edge_index = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 2, 2, 2], [0, 1, 2, 3, 0, 1, 0, 1, 2, 0]])
    time = torch.tensor([4, 3, 2, 1, 5, 6, 1, 2, 3, 9])
    out = LeaveOneOut()(make_graph(edge_index, time=time))
    assert out[INTERACTS].test_mask.nonzero().view(-1).tolist() == [0, 8]
    assert out[INTERACTS].val_mask.nonzero().view(-1).tolist() == [1, 7]
    out = LeaveOneOut()(make_graph(edge_index))  # order of edges
    assert out[INTERACTS].test_mask.nonzero().view(-1).tolist() == [3, 8]
    assert out[INTERACTS].val_mask.nonzero().view(-1).tolist() == [2, 7]


def test_leave_one_out_needs_an_order(caplog):
    edge_index = torch.tensor([[0, 0, 0, 1, 1, 1], [2, 0, 1, 0, 1, 2]])
    LeaveOneOut()(make_graph(edge_index))
    assert not caplog.records
    by_item = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]])
    LeaveOneOut()(make_graph(by_item))
    assert (
        'sorted by item within every user' in caplog.text and 'LeaveOneOut(seed=0)' in caplog.text
    )
    caplog.clear()
    LeaveOneOut(seed=0)(make_graph(by_item))
    # nobody has three items: nothing is held out
    LeaveOneOut()(make_graph(torch.tensor([[0, 0, 1], [0, 1, 2]])))
    assert not caplog.records
    data = make_graph(edge_index)
    data[INTERACTS].ordered = False
    with pytest.raises(
        DataError, match=r"no 'time' and its edges have no order, .* LeaveOneOut\(seed=0\)"
    ):
        LeaveOneOut()(data)
    data[INTERACTS].time = torch.arange(6)
    assert LeaveOneOut()(data)[INTERACTS].test_mask.nonzero().view(-1).tolist() == [2, 5]


def test_leave_one_out_ties_follow_the_edges():
    edge_index = torch.tensor([[0, 0, 0, 0], [3, 1, 0, 2]])
    out = LeaveOneOut()(make_graph(edge_index, time=torch.zeros(4)))
    assert out[INTERACTS].test_mask.tolist() == [False, False, False, True]
    assert out[INTERACTS].val_mask.tolist() == [False, False, True, False]


def test_leave_one_out_random_counts():
    data = random_graph()
    out = LeaveOneOut(seed=3)(data)
    splits = pair_splits(out)
    users = {user for user, _ in splits}
    for user in users:
        held_out = [next(iter(split)) for (u, _), split in splits.items() if u == user]
        expected = 1 if len(held_out) >= 3 else 0
        assert held_out.count('test') == held_out.count('val') == expected
    assert pair_splits(LeaveOneOut(seed=3)(data)) == splits
    assert pair_splits(LeaveOneOut(seed=4)(data)) != splits


def test_temporal_split():
    edge_index = torch.stack([torch.arange(10) % 3, torch.arange(10)])
    time = torch.tensor([9.0, 0.0, 8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0])
    out = TemporalSplit(0.2, 0.3)(make_graph(edge_index, time=time))
    assert sorted(time[out[INTERACTS].train_mask].tolist()) == [0, 1, 2, 3, 4]
    assert sorted(time[out[INTERACTS].val_mask].tolist()) == [5, 6]
    assert sorted(time[out[INTERACTS].test_mask].tolist()) == [7, 8, 9]


def test_temporal_split_counts_the_first_occurrence():
    edge_index = torch.tensor([[0, 0, 0, 0, 0], [0, 1, 2, 3, 0]])
    out = TemporalSplit(0.25, 0.25)(make_graph(edge_index, time=torch.tensor([0, 1, 2, 3, 99])))
    assert out[INTERACTS].train_mask.tolist() == [True, True, False, False, True]
    assert out[INTERACTS].test_mask.tolist() == [False, False, False, True, False]


def test_time_errors():
    edge_index = torch.tensor([[0, 0], [0, 1]])
    with pytest.raises(DataError, match="has no 'time', found .*edge_index"):
        TemporalSplit()(make_graph(edge_index))
    for time in (torch.tensor([1.0]), torch.tensor([1.0, float('nan')]), ['a', 'b'], [1]):
        for transform in (TemporalSplit(), LeaveOneOut()):
            with pytest.raises(DataError, match='accepted is one finite number per edge'):
                transform(make_graph(edge_index, time=time))


@pytest.mark.parametrize('make', [RandomSplit, TemporalSplit])
@pytest.mark.parametrize(
    'val, test, message',
    [
        (-0.1, 0.1, 'val: got -0.1'),
        (0.1, 1.0, 'test: got 1.0'),
        (0.5, 0.5, 'val and test: got 0.5 and 0.5, accepted is a sum below 1'),
        (float('nan'), 0.1, 'val: got nan'),
    ],
)
def test_bad_shares(make, val, test, message):
    with pytest.raises(ConfigError, match=message):
        make(val, test)


@pytest.mark.parametrize('transform', ALL, ids=repr)
def test_graph_without_edges(transform):
    data = make_graph(torch.empty(2, 0, dtype=torch.long), 2, 2, time=torch.empty(0))
    assert masks(transform(data)).shape == (3, 0)


def test_other_names_are_explained():
    data = HeteroData()
    data['customer'].num_nodes = 2
    with pytest.raises(DataError, match='MapTypes'):
        RandomSplit()(data)


def test_users_outside_the_training_have_a_history():
    torch.manual_seed(0)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = 100, 40
    user = torch.arange(100).repeat_interleave(10)
    item = torch.cat([torch.randperm(40)[:10] for _ in range(100)])
    order = torch.randperm(1000)
    store = data['user', 'interacts', 'item']
    store.edge_index = torch.stack([user, item])[:, order]
    store.time = torch.arange(10).repeat(100)[order]
    split = UserSplit(0.2, 0.1, 0.75, seed=3)(data)
    store = split['user', 'interacts', 'item']
    masks = torch.stack([store[f'{name}_mask'] for name in ('train', 'val', 'test', 'history')])
    assert bool((masks.sum(dim=0) == 1).all())
    users = [set(store.edge_index[0, mask].tolist()) for mask in masks]
    assert [len(found) for found in users] == [70, 20, 10, 30]
    assert users[0].isdisjoint(users[3]) and users[1] | users[2] == users[3]
    assert bool((store.time[store.history_mask] < 7).all())
    assert bool((store.time[store.val_mask | store.test_mask] >= 7).all())
    again = UserSplit(0.2, 0.1, 0.75, seed=3)(data)['user', 'interacts', 'item']
    assert torch.equal(again.val_mask, store.val_mask)
    assert not torch.equal(
        UserSplit(0.2, 0.1, seed=4)(data)['user', 'interacts', 'item'].val_mask, store.val_mask
    )
    assert 'history_mask' not in LeaveOneOut()(split)['user', 'interacts', 'item']


def test_a_split_by_users_needs_times_and_shares(tiny_graph):
    with pytest.raises(DataError, match="has no 'time'"):
        UserSplit()(tiny_graph)
    for arguments in (dict(val=-0.1), dict(val=0.6, test=0.4), dict(input_share=1.0)):
        with pytest.raises(ConfigError, match='accepted'):
            UserSplit(**arguments)


def test_cold_items_have_no_training_edge_and_shares_count_items_that_occur():
    data = random_graph()
    data['item'].num_nodes = 60  # 20 of them without an interaction
    out = ColdItemSplit(0.1, 0.25, seed=3)(copy.deepcopy(data))
    store, items = out[INTERACTS], {}
    for split in SPLITS:
        items[split] = set(store.edge_index[1, store[f'{split}_mask']].tolist())
    assert (len(items['val']), len(items['test'])) == (4, 10) and len(
        set().union(*items.values())
    ) == 40
    assert not items['train'] & (items['val'] | items['test'])
    other = ColdItemSplit(0.1, 0.25, seed=4)(data)[INTERACTS]
    assert not torch.equal(other.test_mask, store.test_mask)
