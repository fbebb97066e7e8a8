import math

import pytest
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.evaluation import Evaluator, evaluate
from genrec_pyg.exceptions import ConfigError, DataError, GenRecError
from genrec_pyg.nn.models import Recommender


class Fixed(Recommender):
    """Scores that were given."""

    trainable = False

    def __init__(self, data, scores):
        super().__init__(data)
        self.scores = scores

    def score(self, user):
        return self.scores[user]


def make_data(train, val, test, num_users, num_items):
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = num_users, num_items
    store = data['user', 'interacts', 'item']
    store.edge_index = torch.tensor(train + val + test).t().contiguous()
    sizes = [len(train), len(val), len(test)]
    split = torch.arange(3).repeat_interleave(torch.tensor(sizes))
    store.train_mask, store.val_mask, store.test_mask = split == 0, split == 1, split == 2
    return data


def ranked(order, num_items):
    scores = torch.zeros(num_items)
    scores[torch.tensor(order)] = torch.arange(len(order), 0, -1).float() + 1
    return scores


@pytest.mark.parametrize(
    'n,hits,recall,precision,ndcg,average_precision,mrr',
    [
        (3, (2, 4), 0.6667, 0.4, 0.4982, 0.3333, 0.5),
        (8, (2, 4), 0.2500, 0.4, 0.3601, 0.2000, 0.5),
        (1, (3,), 1.0, 0.2, 0.5, 0.3333, 0.3333),
    ],
)
def test_metrics_by_hand(n, hits, recall, precision, ndcg, average_precision, mrr):
    num_items = 30
    held_out = list(range(1, n + 1))
    order = list(range(20, 25))
    for position, item in zip(hits, held_out):
        order[position - 1] = item
    data = make_data([(0, 0)], [], [(0, i) for i in held_out], 1, num_items)
    figures = evaluate(Fixed(data, ranked(order, num_items).unsqueeze(0)), data, ks=(5,))
    for name, value in dict(
        recall=recall, precision=precision, ndcg=ndcg, map=average_precision, mrr=mrr, hit=1.0
    ).items():
        assert figures[f'{name}@5'] == pytest.approx(value, abs=5e-5), name


def random_case(seed, levels):
    generator = torch.Generator().manual_seed(seed)
    # 0 train, 1 validation, 2 test, else nothing
    split = torch.randint(8, (25, 12), generator=generator)
    split[3][split[3] == 2] = 7
    split[:, 5][split[:, 5] == 0] = 7  # item 5 is cold
    parts = [(split == s).nonzero().tolist() for s in range(3)]
    return (
        make_data(*parts, 25, 12),
        split,
        torch.randint(levels, (25, 12), generator=generator).float(),
    )


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('levels', [3, 10_000])
@pytest.mark.parametrize(
    'split,protocol,masked',
    [('val', 'validation', {0}), ('test', 'validation', {0, 1}), ('test', 'published', {0})],
)
def test_full_ranking_equals_a_plain_loop(seed, levels, split, protocol, masked):
    data, kind, scores = random_case(seed, levels)
    held = {'val': 1, 'test': 2}[split]
    k = 4
    totals = dict.fromkeys(('recall', 'precision', 'ndcg', 'map', 'hit', 'mrr'), 0.0)
    users = 0
    lists = []
    for u in range(25):
        truth = [i for i in range(12) if kind[u, i] == held]
        if not truth:
            continue
        users += 1
        order = sorted(
            (i for i in range(12) if int(kind[u, i]) not in masked),
            key=lambda i: (-float(scores[u, i]), i),
        )[:k]
        lists.append(order)
        hit = [i in truth for i in order]
        ideal = sum(1 / math.log2(p + 2) for p in range(min(len(truth), k)))
        totals['recall'] += sum(hit) / len(truth)
        totals['precision'] += sum(hit) / k
        totals['ndcg'] += sum(h / math.log2(p + 2) for p, h in enumerate(hit)) / ideal
        totals['map'] += sum(h * sum(hit[: p + 1]) / (p + 1) for p, h in enumerate(hit)) / min(
            len(truth), k
        )
        totals['hit'] += any(hit)
        totals['mrr'] += next((1 / (p + 1) for p, h in enumerate(hit) if h), 0.0)
    figures = Evaluator(data, split, (2, k), protocol, batch_size=7)(Fixed(data, scores))
    for name, total in totals.items():
        assert figures[f'{name}@{k}'] == pytest.approx(total / users, abs=1e-6), name
    listed = [i for order in lists for i in order]
    assert figures[f'coverage@{k}'] == pytest.approx(len(set(listed)) / 12, abs=1e-6)
    degree = (kind == 0).sum(dim=0)
    assert figures[f'popularity@{k}'] == pytest.approx(
        float(degree[torch.tensor(listed)].double().mean()), abs=1e-6
    )
    assert figures['num_users'] == users


def test_recall_by_user_averages_to_the_figure():
    data, kind, scores = random_case(0, 10_000)
    model, evaluator = Fixed(data, scores), Evaluator(data, 'test', (2, 4), batch_size=7)
    user, recall = evaluator.user_recall(model, 4)
    assert user.tolist() == [u for u in range(25) if (kind[u] == 2).any()]
    assert float(recall.mean()) == evaluator(model)['recall@4']
    for u, value in zip(user.tolist(), recall.tolist()):
        order = sorted(
            (i for i in range(12) if kind[u, i] not in (0, 1)),
            key=lambda i: (-float(scores[u, i]), i),
        )[:4]
        assert value == sum(int(kind[u, i]) == 2 for i in order) / int((kind[u] == 2).sum())
    with pytest.raises(ConfigError, match=r'k: got 3, accepted are \[2, 4\]'):
        evaluator.user_recall(model, 3)


def test_short_lists_neither_hit_nor_count_as_covered():
    # user 1 knows all items but one; user 0 holds out the largest id, the one that a padding of -1
    # would alias
    data = make_data([(0, 0), (1, 0), (1, 1), (1, 2)], [], [(0, 4), (1, 3)], 2, 5)
    scores = torch.tensor([[0.0, 4, 3, 2, 1], [0.0, 0, 0, 1, 0]])
    figures = evaluate(Fixed(data, scores), data, ks=(3,))
    assert figures['recall@3'] == 0.5 and figures['coverage@3'] == pytest.approx(4 / 5)


def test_warm_and_cold_recall():
    data = make_data([(0, 0), (1, 1)], [], [(0, 1), (1, 2)], 2, 3)
    figures = evaluate(Fixed(data, torch.tensor([[0.0, 2, 1], [2.0, 0, -1]])), data, ks=(1,))
    assert figures['recall_warm@1'] == 1.0 and figures['recall_cold@1'] == 0.0


def test_bad_arguments_and_empty_split():
    data = make_data([(0, 0)], [], [(0, 1)], 1, 3)
    for arguments, name in (
        (dict(ks=()), 'ks'),
        (dict(protocol='mine'), 'protocol'),
        (dict(batch_size=0), 'batch_size'),
        (dict(split='all'), 'split'),
    ):
        with pytest.raises(ConfigError, match=f'{name}: got'):
            Evaluator(data, **arguments)
    with pytest.raises(DataError, match='the val split has no interaction'):
        Evaluator(data, 'val')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_scores_that_are_no_numbers_are_refused(value):
    data = make_data([(0, 0), (1, 1)], [], [(0, 1), (1, 2)], 2, 4)
    scores = torch.rand(2, 4)
    scores[1, 3] = value
    with pytest.raises(
        GenRecError, match='scores of 1 users are NaN or infinite, the first is user 1'
    ):
        evaluate(Fixed(data, scores), data, ks=(2,))
    scores[1, 3] = -1
    scores[1, 1] = value  # of a known item, which is masked
    evaluate(Fixed(data, scores), data, ks=(2,))


def test_lists_longer_than_the_items_cost_no_more_and_give_the_same_figures():
    data, _, scores = random_case(0, 5)
    model = Fixed(data, scores)
    evaluator = Evaluator(data, ks=(12, 10**9))
    score, item = evaluator.top_k(model)
    assert score.shape == item.shape == (evaluator.user.numel(), 12)
    figures = evaluator(model)
    for name in ('recall', 'ndcg', 'map', 'hit', 'mrr', 'coverage', 'popularity'):
        assert figures[f'{name}@12'] == figures[f'{name}@{10**9}'], name
    assert figures['precision@1000000000'] == pytest.approx(figures['precision@12'] * 12 / 10**9)


def test_a_model_of_another_split_is_refused():
    data = make_data([(0, 0), (1, 1)], [(0, 1)], [(0, 2), (1, 2)], 2, 4)
    other = make_data([(0, 2), (1, 1)], [(0, 1)], [(0, 0), (1, 2)], 2, 4)
    model = Fixed(data, torch.rand(2, 4))
    evaluate(model, data, ks=(2,))
    evaluate(model, other, 'val', ks=(2,))
    with pytest.raises(
        DataError, match='1 of 2 pairs of its test split are training pairs of the model'
    ):
        evaluate(model, other, ks=(2,))
    larger = make_data([(0, 0), (1, 1)], [], [(2, 2)], 3, 4)
    with pytest.raises(DataError, match='it has 3 users and 4 items'):
        evaluate(model, larger, ks=(2,))


def test_a_test_pair_that_is_also_a_training_pair_is_no_miss():
    data = make_data([(0, 0), (0, 1)], [], [(0, 1)], 1, 4)
    with pytest.raises(DataError, match='1 pairs of user and item are in two splits'):
        Evaluator(data)


@pytest.mark.parametrize('ks', [4, [4], (4,), torch.tensor([4]), range(4, 5)])
def test_lengths_of_lists_in_any_container(ks):
    data, _, scores = random_case(0, 5)
    assert evaluate(Fixed(data, scores), data, ks=ks) == evaluate(
        Fixed(data, scores), data, ks=(4,)
    )
