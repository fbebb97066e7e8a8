import logging
from dataclasses import replace

import pytest
import torch

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import InteractionLoader, Triples


def make_graph(num_users=30, num_items=20, num_edges=200):
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randperm(num_users * num_items, generator=generator)[:num_edges].sort().values
    return TrainingGraph(num_users, num_items, torch.stack([pairs // num_items, pairs % num_items]))


def epoch(loader):
    return Triples(*(torch.cat(column) for column in zip(*loader)))


def pairs_of(user, item):
    return sorted(zip(user.tolist(), item.tolist()))


@pytest.mark.parametrize('sampler', ['edge', 'user'])
def test_triples(sampler):
    graph = make_graph()
    observed = {tuple(pair) for pair in graph.edge_index.t().tolist()}
    loader = InteractionLoader(graph, batch_size=64, sampler=sampler)
    assert (len(loader), loader.num_edges) == (4, 200)
    batches = list(loader)
    assert [batch.user.numel() for batch in batches] == [64, 64, 64, 8]
    for batch in batches:
        assert isinstance(batch, Triples)
        assert all(
            column.dtype == torch.long and column.shape == batch.user.shape for column in batch
        )
        assert observed.issuperset(pairs_of(batch.user, batch.pos))
        assert observed.isdisjoint(pairs_of(batch.user, batch.neg))
        assert int(batch.neg.min()) >= 0 and int(batch.neg.max()) < graph.num_items


def test_edge_sampler_takes_every_edge_once():
    graph = make_graph()
    loader = InteractionLoader(graph, batch_size=7)
    first, second = epoch(loader), epoch(loader)
    expected = [tuple(pair) for pair in graph.edge_index.t().tolist()]
    assert pairs_of(first.user, first.pos) == pairs_of(second.user, second.pos) == expected
    assert not torch.equal(first.user, second.user)  # another order
    assert not torch.equal(first.neg, second.neg)


def test_without_shuffle_edges_keep_their_order_and_negatives_change():
    graph = make_graph()
    loader = InteractionLoader(graph, batch_size=7, shuffle=False)
    first, second = epoch(loader), epoch(loader)
    assert torch.equal(torch.stack(first[:2]), graph.edge_index)
    assert torch.equal(first.pos, second.pos) and not torch.equal(first.neg, second.neg)


def test_unsorted_edges_are_accepted():
    graph = make_graph()
    shuffled = replace(graph, edge_index=graph.edge_index[:, torch.randperm(200)])
    triples = epoch(InteractionLoader(shuffled))
    assert pairs_of(triples.user, triples.pos) == [
        tuple(pair) for pair in graph.edge_index.t().tolist()
    ]
    assert set(pairs_of(triples.user, triples.neg)).isdisjoint(pairs_of(triples.user, triples.pos))


def test_user_sampler_weighs_users_alike():
    # User 0 has 90 of 100 edges, users 1 to 10 have one each, user 11 none.
    user = torch.cat([torch.zeros(90, dtype=torch.long), torch.arange(1, 11)])
    item = torch.cat([torch.arange(90), torch.full((10,), 5)])
    torch.manual_seed(0)
    loader = InteractionLoader(TrainingGraph(12, 200, torch.stack([user, item])), sampler='user')
    triples = [epoch(loader) for _ in range(300)]
    drawn = torch.cat([triple.user for triple in triples])
    share = torch.bincount(drawn, minlength=12) / drawn.numel()
    assert torch.allclose(share[:11], torch.full((11,), 1 / 11), atol=0.01)
    assert share[11] == 0
    pos = torch.cat([triple.pos for triple in triples])[drawn == 0]
    assert torch.bincount(pos, minlength=200)[:90].min() > 0 and int(pos.max()) == 89


def test_negatives_are_uniform_over_the_other_items():
    graph = TrainingGraph(1, 5, torch.tensor([[0, 0], [1, 3]]))
    torch.manual_seed(0)
    loader = InteractionLoader(graph)
    neg = torch.cat([epoch(loader).neg for _ in range(3000)])
    share = torch.bincount(neg, minlength=5) / neg.numel()
    assert torch.allclose(share, torch.tensor([1 / 3, 0, 1 / 3, 0, 1 / 3]), atol=0.03)


def test_global_seed_repeats_an_epoch():
    loader = InteractionLoader(make_graph(), batch_size=50)
    torch.manual_seed(3)
    first = epoch(loader)
    torch.manual_seed(3)
    assert all(torch.equal(a, b) for a, b in zip(first, epoch(loader)))


@pytest.mark.parametrize('sampler', ['edge', 'user'])
def test_users_with_every_item_are_left_out_with_one_warning(sampler, caplog):
    graph = TrainingGraph(3, 3, torch.tensor([[0, 0, 0, 1, 1], [0, 1, 2, 0, 1]]))
    with caplog.at_level(logging.WARNING):
        loader = InteractionLoader(graph, batch_size=2, sampler=sampler)
        batches = list(loader) + list(loader)
    assert len(caplog.records) == 1
    assert '1 users interacted with all 3 items' in caplog.text and '3 edges' in caplog.text
    assert (loader.num_edges, len(loader), len(batches)) == (2, 1, 2)
    assert {user for batch in batches for user in batch.user.tolist()} == {1}
    assert {neg for batch in batches for neg in batch.neg.tolist()} == {2}


def test_no_negatives_at_all():
    for edge_index in (torch.tensor([[0, 0], [0, 1]]), torch.empty(2, 0, dtype=torch.long)):
        with pytest.raises(DataError, match='none of 1 users has both'):
            InteractionLoader(TrainingGraph(1, 2, edge_index))


def test_drop_last():
    loader = InteractionLoader(make_graph(), batch_size=64, drop_last=True)
    assert [batch.user.numel() for batch in loader] == [64] * 3 and len(loader) == 3
    loader = InteractionLoader(make_graph(), batch_size=50, drop_last=True)
    assert len(list(loader)) == len(loader) == 4
    loader = InteractionLoader(make_graph(), batch_size=500, drop_last=True)
    assert len(list(loader)) == len(loader) == 0


def test_device():
    assert next(iter(InteractionLoader(make_graph(), device='cpu'))).neg.device.type == 'cpu'


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'batch_size': 0}, 'batch_size: got 0, accepted is a positive integer'),
        ({'batch_size': 1.5}, 'batch_size: got 1.5'),
        ({'sampler': 'pair'}, "sampler: got 'pair', accepted are 'edge', 'user'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        InteractionLoader(make_graph(), **arguments)


def test_repr():
    assert (
        repr(InteractionLoader(make_graph()))
        == "InteractionLoader(200, batch_size=1024, sampler='edge', shuffle=True)"
    )
