"""Losses of several interests by hand-worked numbers, selection, and retrieval by the best
interest.
"""

import math

import pytest
import torch
from helpers.sequence_graphs import all_train, sequence_data, timed_data

from genrec_pyg.evaluation import Evaluator
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import SequenceBatch
from genrec_pyg.nn.losses import sampled as losses
from genrec_pyg.nn.models import get_model
from genrec_pyg.ops import topk_excluding
from genrec_pyg.retrieval import make_search, retrieve

MULTI = ['MIND', 'ComiRecSA', 'REMI']


def make(name='ComiRecSA', data=None, **arguments):
    torch.manual_seed(0)
    settings = {'hidden_channels': 8, 'history_length': 5, 'num_negatives': 6, **arguments}
    return get_model(name)(sequence_data() if data is None else data, **settings)


def terms(**arguments):
    """Terms for interests (1, 0) and (0, 1), the target (2, 0) and the negatives (1, 1) and (0,
    -1), and the interests.
    """
    model = make(
        data=all_train(timed_data([[0, 1, 2]], 3)), hidden_channels=2, num_interests=2, **arguments
    )
    with torch.no_grad():
        model.items.weight.copy_(torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, -1.0]]))
    interests = torch.eye(2).unsqueeze(0).requires_grad_()
    batch = SequenceBatch(
        torch.tensor([0]), torch.tensor([[1, 2]]), torch.tensor([2]), torch.tensor([0])
    )
    return model.ranking_terms(batch, interests), interests


@pytest.mark.parametrize('num_negatives', [None, 3, 50])
@pytest.mark.parametrize(
    'beta,single,multi', [(0.0, 0.407606, 0.593940), (1.0, 0.476655, 0.742467)]
)
def test_both_losses(num_negatives, beta, single, multi):
    """Every item is a negative but the target, which is masked."""
    found, interests = terms(multi_loss=True, beta=beta, num_negatives=num_negatives)
    assert float(found['single'].detach()) == pytest.approx(single, abs=2e-6)
    assert float(found['multi'].detach()) == pytest.approx(multi, abs=2e-6)
    if beta == 0:
        found['multi'].backward()
        expected = torch.tensor([[[-0.610023, 0.113093], [0.072140, 0.154698]]])
        assert torch.allclose(interests.grad, expected, atol=2e-6)


def test_expected_loss():
    share = torch.tensor([2.0, 0.0]).softmax(0)
    found, _ = terms(selection='p', single='expected', multi_loss=True)
    assert float(sum(found.values())) == pytest.approx(1.120748, abs=2e-6)
    assert float(found['single']) == pytest.approx(
        float(share @ torch.tensor([0.407606, 1.407606])), abs=2e-6
    )
    hard, _ = terms(selection='hard', single='expected')
    assert float(hard['single']) == pytest.approx(0.407606, abs=2e-6) and set(hard) == {'single'}
    half, _ = terms(selection='p', single='expected', tau=0.0)
    assert float(half['single']) == pytest.approx(0.907606, abs=2e-6)


@pytest.mark.parametrize('selection', ['p', 'l', 'uniform'])
def test_the_draws_agree_with_the_expectation(selection):
    torch.manual_seed(0)
    model = make(
        data=all_train(timed_data([[0, 1, 2]], 3)),
        hidden_channels=2,
        num_interests=2,
        selection=selection,
    )
    with torch.no_grad():
        model.items.weight.copy_(torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, -1.0]]))
    batch = SequenceBatch(*(torch.tensor(column) for column in ([0], [[1, 2]], [2], [0])))
    count = 20_000
    interests = torch.eye(2).unsqueeze(0).requires_grad_()
    many = SequenceBatch(*(column.expand(count, *column.shape[1:]) for column in batch))
    drawn = torch.autograd.grad(
        model.ranking_terms(many, interests.expand(count, 2, 2))['single'], interests
    )[0]
    model.expected = True
    expected = torch.autograd.grad(model.ranking_terms(batch, interests)['single'], interests)[0]
    assert float((drawn - expected).abs().max()) < 0.02


def test_label_aware_attention():
    model = make(selection='label_aware', power=2.0)
    valid = torch.ones(1, 2, dtype=torch.bool)
    score = torch.tensor([[2.0, 1.0]])
    assert torch.allclose(
        model.label_aware_weights(score, valid), torch.tensor([[0.952574, 0.047426]]), atol=1e-6
    )
    model.power = 1.0
    assert torch.allclose(
        model.label_aware_weights(-score, valid), torch.tensor([[0.268941, 0.731059]]), atol=1e-6
    )
    model.power = 0
    assert torch.equal(model.label_aware_weights(-score, valid), torch.tensor([[0.5, 0.5]]))
    found, _ = terms(selection='label_aware', power=1.0)
    weight = torch.tensor([2.0, 0.0]).softmax(0)
    vector = weight  # of the interests (1, 0) and (0, 1)
    scores = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, -1.0]]) @ vector
    assert float(found['single']) == pytest.approx(float(scores.logsumexp(0) - scores[0]), abs=2e-6)


def test_first_losses_and_deviations():
    """With weights as drawn, scores are near 0 and losses near the logarithm of the number of
    candidates.
    """
    torch.manual_seed(0)
    lists = [torch.randperm(3000)[: torch.randint(1, 51, ())].tolist() for _ in range(400)]
    data = all_train(timed_data(lists, 3000))
    for name in ('ComiRecSA', 'MIND'):
        model = get_model(name)(data, multi_loss=True, selection='p', negatives='own')
        assert float(model.items.weight.detach().std()) == pytest.approx(0.1768, rel=0.03)
        batch = next(iter(model.make_loader(512, 'user')))
        found = {key: float(value.detach()) for key, value in model.loss(batch).items()}
        assert found['single'] == pytest.approx(7.155, abs=0.05) and sum(
            found.values()
        ) == pytest.approx(14.31, abs=0.1)
        if name == 'ComiRecSA':
            assert float(model.embed()[0].norm(dim=2).mean()) == pytest.approx(0.39, rel=0.12)
    extractor = get_model('ComiRecSA')(data).extractor
    for weight, deviation in (
        (extractor.position, 0.0250),
        (extractor.hidden.weight, 0.1768),
        (extractor.interest.weight, 0.0884),
    ):
        assert float(weight.detach().std()) == pytest.approx(deviation, rel=0.08)
    assert sum(p.numel() for p in extractor.parameters()) == 20_608
    assert sum(p.numel() for p in get_model('MIND')(data).extractor.parameters()) == 4096


@pytest.mark.parametrize('name', MULTI)
@pytest.mark.parametrize(
    'selection,multi_loss', [('hard', False), ('p', False), ('l', False), ('p', True)]
)
def test_only_the_chosen_interest_learns_from_a_target(name, selection, multi_loss):
    model = make(name, selection=selection, multi_loss=multi_loss)
    batch = next(iter(model.make_loader(12, 'edge')))
    interests = model.interests(batch.history, batch.length)[0].detach().requires_grad_()
    sum(model.ranking_terms(batch, interests).values()).backward()
    learned = interests.grad.abs().sum(dim=2) > 0
    assert bool((learned.sum(dim=1) == (4 if multi_loss else 1)).all())
    if selection == 'l':
        assert all(p.grad is None for p in model.selection.parameters())


def test_learned_maps_have_a_gradient():
    model = make(selection='l', projection='learned', single='expected')
    sum(model.loss(next(iter(model.make_loader(12, 'edge')))).values()).backward()
    assert all(p.grad is not None for p in model.selection.parameters())
    with pytest.raises(ConfigError, match="single: got 'sampled' with projection='learned'"):
        make(selection='l', projection='learned')


@pytest.mark.parametrize('name', MULTI)
def test_one_interest_needs_no_selection(name):
    found = {}
    for selection in ('hard', 'p', 'l', 'uniform', 'label_aware'):
        model = make(
            name, num_interests=1, selection=selection, multi_loss=True, num_negatives=None
        )
        model.eval()  # the same noise of the routing
        torch.manual_seed(1)
        batch = next(iter(model.make_loader(12, 'edge')))
        # What the maps of 'l' drew is no part of the comparison.
        model.load_state_dict(
            {
                **model.state_dict(),
                **{k: v for k, v in make(name, num_interests=1).state_dict().items()},
            }
        )
        loss = model.loss(batch)
        assert float(loss['single']) == pytest.approx(float(loss['multi']), abs=1e-6)
        found[selection] = float(loss['single'])
    assert max(found.values()) - min(found.values()) < 1e-6


def test_interests_have_no_order():
    """Permuted rows of the attention change neither scores nor the multi-interest loss."""
    model = make(multi_loss=True, num_negatives=None)
    other = make(multi_loss=True, num_negatives=None)
    with torch.no_grad():
        other.extractor.interest.weight.copy_(model.extractor.interest.weight[[2, 0, 3, 1]])
    batch = next(iter(model.make_loader(12, 'edge')))
    assert float(model.loss(batch)['multi']) == pytest.approx(
        float(other.loss(batch)['multi']), abs=1e-6
    )
    assert torch.allclose(model.score(torch.arange(5)), other.score(torch.arange(5)), atol=1e-6)


def test_own_and_shared_negatives_agree_and_all_items_in_blocks(monkeypatch):
    model = make(multi_loss=True, selection='p', single='expected', beta=1.0)
    batch = next(iter(model.make_loader(12, 'edge')))
    item = torch.tensor([1, 4, 9])
    found = []
    for drawn in (item, item.expand(12, 3)):
        model.draw_negatives = lambda target, drawn=drawn: drawn
        found.append(model.loss(batch))
    assert all(
        torch.allclose(found[0][key], found[1][key], atol=1e-6) for key in ('single', 'multi')
    )

    model.num_negatives = None
    whole = model.loss(batch)
    gradients = torch.autograd.grad(sum(whole.values()), model.items.weight)[0]
    monkeypatch.setattr(losses, 'rows_per_block', lambda candidates, rows: 5)
    parts = model.loss(batch)
    assert all(torch.allclose(whole[key], parts[key], atol=1e-6) for key in whole)
    assert torch.allclose(
        torch.autograd.grad(sum(parts.values()), model.items.weight)[0], gradients, atol=1e-6
    )


def test_accidental_hits():
    model = make(num_negatives=11)
    batch = next(iter(model.make_loader(12, 'edge')))
    masked = float(model.loss(batch)['single'])
    model.mask_hits = False
    assert float(model.loss(batch)['single']) > masked + 0.02


@pytest.mark.parametrize('align', ['left', 'right'])
def test_both_alignments_score(align):
    model = make(align=align)
    batch = next(iter(model.make_loader(12, 'edge')))
    assert bool((batch.history[:, 0 if align == 'left' else -1] < 11).all())
    assert bool(torch.isfinite(model.score(torch.arange(5))).all())


def test_routing_term():
    even = make('REMI', routing_weight=50.0)
    window = make('REMI', routing_weight=50.0, routing_scope='window')
    batch = next(iter(even.make_loader(12, 'edge')))
    assert 0 <= float(even.loss(batch)['routing']) < float(window.loss(batch)['routing'])
    assert 'routing' not in make('REMI', routing_weight=0.0).loss(batch)


def test_number_of_interests_by_the_history():
    model = make('MIND', adaptive_interests=True, num_interests=4)
    count = model.valid_interests(torch.tensor([0, 1, 3, 4, 5, 16, 1000])).sum(dim=1)
    assert count.tolist() == [1, 1, 1, 2, 2, 4, 4]
    users = model.eval().embed()[0]
    assert torch.equal(users[1, 2:], users[1, :1].expand(2, 8)) and not torch.equal(
        users[1, 1], users[1, 0]
    )
    model.train()
    model.multi_loss = True
    loss = sum(model.loss(next(iter(model.make_loader(12, 'edge')))).values())
    loss.backward()
    assert bool(torch.isfinite(loss)) and bool(torch.isfinite(model.items.weight.grad).all())


def planted(interests, items, history, held_out):
    """A model whose users have the given interests ``[U, K, d]`` and items ``[I, d]``, and an
    evaluator of its graph.
    """
    data = timed_data([items + [target] for items, target in zip(history, held_out)], len(items))
    store = data['user', 'interacts', 'item']
    last = store.time == torch.tensor([len(items) for items in history])[store.edge_index[0]]
    store.train_mask, store.val_mask, store.test_mask = ~last, torch.zeros_like(last), last
    model = make(
        data=data, hidden_channels=items.size(1), num_interests=interests.size(1), history_length=1
    )
    model.embed = lambda: (interests, items)
    return model, data


def test_the_best_interest_ranks_and_known_items_are_left_out():
    items = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [-1.0, -2.0], [-3.0, -1.5]])
    model, data = planted(torch.eye(2).unsqueeze(0), items, [[0]], [3])
    assert model.score(torch.tensor([0]))[0].tolist() == [3, 2, 1, -1, -1.5]
    evaluator = Evaluator(data, 'test', (3, 5))
    assert evaluator.top_k(model)[1][0].tolist() == [1, 2, 3, 4, 5]
    figures = evaluator(model)
    assert figures['recall@3'] == 1 and figures['ndcg@3'] == pytest.approx(0.5)


def test_the_best_items_are_those_of_the_lists_of_all_interests():
    torch.manual_seed(0)
    interests, items = torch.randn(6, 3, 4), torch.randn(40, 4)
    model, data = planted(interests, items, [[u] for u in range(6)], [10 + u for u in range(6)])
    found = Evaluator(data, 'test', (5,)).top_k(model)
    rowptr = torch.arange(7)
    each = [
        topk_excluding(interests[:, k] @ items.t(), 5, rowptr, torch.arange(6)) for k in range(3)
    ]
    for user in range(6):
        best = {}
        for score, item in each:
            for s, i in zip(score[user].tolist(), item[user].tolist()):
                best[i] = max(s, best.get(i, -math.inf))
        expected = sorted(best, key=best.get, reverse=True)[:5]
        assert found[1][user].tolist() == expected
    with model.cached_embeddings():
        search = make_search(model)
        ((_, score, item),) = retrieve(search, torch.arange(6), 5, Evaluator(data, 'test').known)
    assert torch.equal(item, found[1]) and torch.allclose(score, found[0])


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_interests=0),
        dict(min_history=0),
        dict(align='middle'),
        dict(negatives='x'),
        dict(single='x'),
        dict(beta=-1.0),
        dict(power=0.5),
        dict(selection='x'),
        dict(tau=-1.0),
        dict(routing_weight=-1.0),
        dict(routing_scope='x'),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        make(**arguments)


def test_released_variant():
    """What the program of BaM computes, unless an argument says otherwise."""
    mind, remi = (make(name, variant='released') for name in ('MIND', 'REMI'))
    assert (mind.negatives, mind.mask_hits) == ('own', False)
    assert (mind.extractor.axis, mind.extractor.renormalize) == ('position', False)
    assert remi.routing_scope == 'window'
    mind, remi = (make(name) for name in ('MIND', 'REMI'))
    assert (mind.negatives, mind.mask_hits) == ('shared', True)
    assert (mind.extractor.axis, mind.extractor.renormalize) == ('interest', True)
    assert remi.routing_scope == 'real'
    given = make('MIND', variant='released', mask_hits=True, routing_axis='interest')
    assert given.mask_hits and given.negatives == 'own' and given.extractor.axis == 'interest'
    with pytest.raises(ConfigError, match='variant'):
        make(variant='public')


def test_released_variant_counts_hits():
    """All items are negatives, the target among them: without it 3 candidates, with it 4."""
    torch.manual_seed(0)
    losses = {}
    for variant in ('principled', 'released'):
        model = make(data=all_train(timed_data([[0, 1, 2]], 3)), variant=variant, num_negatives=3)
        with torch.no_grad():
            model.items.weight.zero_()
        model.draw_negatives = lambda target: torch.arange(3)
        batch = SequenceBatch(
            torch.tensor([0]), torch.tensor([[1, 2]]), torch.tensor([2]), torch.tensor([0])
        )
        losses[variant] = float(model.ranking_terms(batch, torch.ones(1, 4, 8))['single'])
    assert losses == pytest.approx({'principled': math.log(3), 'released': math.log(4)})
