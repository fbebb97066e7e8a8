import pytest
import torch
from helpers.sequence_graphs import all_train, timed_data

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import known_masks, timed_edges, training_graph
from genrec_pyg.loader import SequenceLoader, Sequences, WindowLoader
from genrec_pyg.loader.sequences import training_sequences
from genrec_pyg.transforms import LeaveOneOut

#: A user with repeats.
REPEATS = [3, 1, 4, 1, 5, 9, 2, 6]


def samples(loader, passes=40):
    found = set()
    for _ in range(passes):
        for batch in loader:
            for row in range(batch.user.numel()):
                found.add(
                    (
                        int(batch.user[row]),
                        tuple(batch.history[row].tolist()),
                        int(batch.length[row]),
                        int(batch.target[row]),
                    )
                )
    return found


def test_windows_are_padded_and_truncated():
    sequences = Sequences.from_edges(torch.tensor([[0, 0, 0, 2], [5, 6, 7, 8]]), 3, 9)
    user, stop = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([3, 2, 0, 0, 1])
    items, length = sequences.window(user, stop, 2)
    assert items.tolist() == [[6, 7], [5, 6], [9, 9], [9, 9], [8, 9]] and length.tolist() == [
        2,
        2,
        0,
        0,
        1,
    ]
    assert sequences.window(user, stop, 2, 'right')[0].tolist() == [
        [6, 7],
        [5, 6],
        [9, 9],
        [9, 9],
        [9, 8],
    ]
    items, length = sequences.last(torch.tensor([2, 0]), 4)
    assert items.tolist() == [[8, 9, 9, 9], [5, 6, 7, 9]] and length.tolist() == [1, 3]
    with pytest.raises(DataError, match='users out of order'):
        Sequences.from_edges(torch.tensor([[1, 0], [0, 0]]), 2, 1)


@pytest.mark.parametrize('align', ['left', 'right'])
def test_windows_equal_slices_of_lists(align):
    torch.manual_seed(1)
    lists = [torch.randint(50, (int(n),)).tolist() for n in torch.randint(0, 9, (30,))]
    rows = [(user, item) for user, items in enumerate(lists) for item in items]
    sequences = Sequences.from_edges(torch.tensor(rows).t(), 30, 50)
    for size in (1, 3, 12):
        user = torch.arange(30).repeat_interleave(sequences.lengths() + 1)
        stop = torch.cat([torch.arange(len(items) + 1) for items in lists])
        found, length = sequences.window(user, stop, size, align)
        for row, (u, end) in enumerate(zip(user.tolist(), stop.tolist())):
            part = lists[u][max(end - size, 0) : end]
            pad = [50] * (size - len(part))
            assert found[row].tolist() == (
                part + pad if align == 'left' else pad + part
            ) and length[row] == len(part)


def test_training_targets_of_a_sequence_with_repeats():
    """The sequence 3 1 4 1 5 9 2 6 of which the last two items are held out."""
    data = timed_data([REPEATS])
    store = data['user', 'interacts', 'item']
    for name, low, high in (('train', 0, 6), ('val', 6, 7), ('test', 7, 8)):
        store[f'{name}_mask'] = (store.time >= low) & (store.time < high)
    graph = training_graph(data, timed=True, repeats=True)
    pad = 10
    assert samples(SequenceLoader(graph, 4, 3)) == {
        (0, (3, pad, pad), 1, 1),
        (0, (3, 1, pad), 2, 4),
        (0, (3, 1, 4), 3, 1),
        (0, (1, 4, 1), 3, 5),
        (0, (4, 1, 5), 3, 9),
    }
    test = Sequences.from_edges(timed_edges(data, known_masks(data, 'test'), repeats=True), 1, 10)
    val = Sequences.from_edges(timed_edges(data, known_masks(data, 'val'), repeats=True), 1, 10)
    assert val.last(torch.tensor([0]), 3)[0].tolist() == [[1, 5, 9]]
    assert test.last(torch.tensor([0]), 3)[0].tolist() == [[5, 9, 2]]


def test_leave_one_out_and_distinct_pairs():
    data = LeaveOneOut()(timed_data([REPEATS], shuffle=True))
    graph = training_graph(data, timed=True)
    assert {target for *_, target in samples(SequenceLoader(graph, 4, 3))} == {1, 4, 5, 9}
    assert training_sequences(graph).item.tolist() == [3, 1, 4, 5, 9]
    known = timed_edges(data, known_masks(data, 'test'))
    assert known[1].tolist() == [3, 1, 4, 5, 9, 2]


def test_every_target_comes_once_per_epoch():
    graph = training_graph(all_train(timed_data([[0, 1, 2, 3], [4], [5, 6], []])), timed=True)
    loader = SequenceLoader(graph, 3, 2, sampler='edge')
    for _ in range(3):
        found = [(int(u), int(t)) for batch in loader for u, t in zip(batch.user, batch.target)]
        assert (
            sorted(found) == [(0, 1), (0, 2), (0, 3), (2, 6)]
            and loader.num_edges == 4
            and len(loader) == 2
        )
    assert len(SequenceLoader(graph, 3, 2, sampler='edge', steps_per_epoch=1)) == 1
    assert {u for u, *_ in samples(SequenceLoader(graph, 3, 2, min_history=2))} == {0}


def test_users_weigh_the_same():
    torch.manual_seed(0)
    graph = training_graph(all_train(timed_data([list(range(9)), [1, 2], [3]])), timed=True)
    loader = SequenceLoader(graph, 1000, 4, steps_per_epoch=20)
    batches = list(loader)
    assert len(batches) == len(loader) == 20 and loader.num_edges == 20_000
    user = torch.cat([batch.user for batch in batches])
    assert abs(float((user == 0).float().mean()) - 0.5) < 0.02 and not bool((user == 2).any())
    long = torch.cat([batch.target[batch.user == 0] for batch in batches])
    assert torch.bincount(long, minlength=9).tolist()[0] == 0
    assert float((torch.bincount(long, minlength=9)[1:] / long.numel() - 1 / 8).abs().max()) < 0.02


def test_windows_of_all_positions():
    lists = [[0, 1, 2, 3, 4, 5, 6], [7], [8, 9], [2, 4, 6, 8]]
    graph = training_graph(all_train(timed_data(lists)), timed=True)
    last = {
        int(b.user[r]): b.item[r, : b.length[r]].tolist()
        for b in WindowLoader(graph, 2, 3)
        for r in range(len(b.user))
    }
    assert last == {0: [3, 4, 5, 6], 2: [8, 9], 3: [2, 4, 6, 8]}
    targets = []
    for batch in WindowLoader(graph, 2, 3, windows='all'):
        for row in range(batch.user.numel()):
            items = batch.item[row, : batch.length[row]].tolist()
            place = lists[int(batch.user[row])].index(items[0])
            assert lists[int(batch.user[row])][place : place + len(items)] == items
            assert bool((batch.item[row, batch.length[row] :] == 10).all())
            targets += [(int(batch.user[row]), item) for item in items[1:]]
    assert sorted(targets) == sorted(
        (user, item) for user, items in enumerate(lists) for item in items[1:]
    )


def test_negatives_are_no_training_items_and_padding_has_none():
    """With inputs 3 wide, the user of three items is padded once; negatives of all items but the
    own come up.
    """
    lists = [[1, 6, 1], [2, 3], list(range(10))]
    graph = training_graph(all_train(timed_data(lists)), timed=True, repeats=True)
    seen = {0: set(), 1: set(), 2: set()}
    for _ in range(60):
        for batch in WindowLoader(graph, 3, 3, num_negatives=2):
            assert batch.negative.shape == (batch.user.numel(), batch.item.size(1) - 1, 2)
            real = batch.item[:, 1:] != 10
            assert bool((batch.negative[~real] == 10).all())
            for row, user in enumerate(batch.user.tolist()):
                seen[user] |= set(batch.negative[row][real[row]].flatten().tolist())
    assert seen == {0: set(range(10)) - {1, 6}, 1: set(range(10)) - {2, 3}, 2: {10}}


def test_windows_of_one_batch_have_about_one_length():
    torch.manual_seed(0)
    lists = [torch.randperm(60)[:n].tolist() for n in [2] * 200 + [50] * 40]
    graph = training_graph(all_train(timed_data(lists, 60)), timed=True)
    loader = WindowLoader(graph, 20, 50, num_negatives=0)
    batches = list(loader)
    assert (
        len(batches) == len(loader)
        and sum(batch.user.numel() for batch in batches) == loader.num_edges == 240
    )
    entries, real = sum(b.item.numel() for b in batches), sum(int(b.length.sum()) for b in batches)
    assert entries < 1.5 * real  # 5 times as many without
    assert [b.item.size(1) for b in batches] != sorted(b.item.size(1) for b in batches)


@pytest.mark.parametrize('make', [SequenceLoader, WindowLoader])
def test_bad_arguments_and_graphs_are_refused(make):
    graph = training_graph(all_train(timed_data([[0, 1], [2]])), timed=True)
    for arguments in (
        dict(batch_size=0),
        dict(history_length=0),
        dict(steps_per_epoch=0),
        dict(history_length=True),
    ):
        with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
            make(graph, **arguments)
    with pytest.raises(DataError, match='accepted is at least one'):
        make(training_graph(all_train(timed_data([[0], [2]])), timed=True))
    with pytest.raises(DataError, match='has no sequence'):
        make(training_graph(all_train(timed_data([[0, 1], [2]]))))
    other = {
        SequenceLoader: [dict(sampler='x'), dict(align='middle'), dict(min_history=0)],
        WindowLoader: [dict(windows='x'), dict(num_negatives=-1)],
    }[make]
    for arguments in other:
        with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
            make(graph, **arguments)
    assert repr(make(graph)).startswith(make.__name__)


def test_a_seed_repeats_the_batches():
    graph = training_graph(all_train(timed_data([list(range(9)), [1, 2, 5], [3, 4]])), timed=True)
    for loader in (
        SequenceLoader(graph, 4, 3),
        SequenceLoader(graph, 4, 3, sampler='edge'),
        WindowLoader(graph, 2, 3),
    ):
        found = []
        for _ in range(2):
            torch.manual_seed(5)
            found.append([tuple(column.tolist() for column in batch) for batch in loader])
        assert found[0] == found[1]
