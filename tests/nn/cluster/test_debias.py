from collections import Counter

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.cluster import InterestDebias

U, I = 12, 30


def plain(labels, edges, user, item, added, decision):
    """The rules of the specification, one entry at a time."""
    history = {u: [i for v, i in edges if v == u] for u in range(U)}
    keep = []
    for u, i, new in zip(user, item, added):
        known = [m for m in labels if labels[m][i] >= 0]
        if not known or not history[u]:
            keep.append(True)
            continue
        counts = {m: Counter(labels[m][j] for j in history[u] if labels[m][j] >= 0) for m in labels}
        if new:
            keep.append(any(counts[m][labels[m][i]] > 0 for m in known))
            continue
        accidental = {m: counts[m][labels[m][i]] <= min(counts[m].values(), default=0) + 1 for m in known}
        if decision == 'largest':
            keep.append(accidental[max(known, key=lambda m: counts[m][labels[m][i]])])
        else:
            keep.append(2 * sum(accidental.values()) > len(known))
    return keep


def random_case(seed):
    generator = torch.Generator().manual_seed(seed)
    edges = (torch.rand(U, I, generator=generator) < 0.25).nonzero().t()
    edges = edges[:, edges[0] != 3]  # user 3 has no item
    labels = {m: torch.randint(-1, k, (I,), generator=generator) for m, k in (('image', 5), ('text', 8), ('audio', 3))}
    user = torch.randint(U, (500,), generator=generator)
    item = torch.randint(I, (500,), generator=generator)
    seen = set(map(tuple, edges.t().tolist()))
    added = torch.tensor([(u, i) not in seen for u, i in zip(user.tolist(), item.tolist())])
    return labels, edges, user, item, added


@pytest.mark.parametrize('decision', ['largest', 'majority'])
@pytest.mark.parametrize('variant', ['principled', 'released'])
@pytest.mark.parametrize('seed', range(4))
def test_equals_the_loop_over_entries(decision, variant, seed):
    labels, edges, user, item, added = random_case(seed)
    debias = InterestDebias(labels, edges, U, sample_ratio=1.0, decision=decision, variant=variant)
    used = {m: (labels['image'] if variant == 'released' else label).tolist() for m, label in labels.items()}
    expected = plain(used, edges.t().tolist(), user.tolist(), item.tolist(), added.tolist(), decision)
    assert debias.filter(user, item, added).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_one_cluster_keeps_every_added_item_and_a_cluster_per_item_undoes_it():
    _, edges, user, item, added = random_case(0)
    user, item = user[added & (user != 3)], item[added & (user != 3)]
    new = torch.ones_like(user, dtype=torch.bool)
    one = InterestDebias({'image': torch.zeros(I, dtype=torch.long)}, edges, U, sample_ratio=1.0)
    each = InterestDebias({'image': torch.arange(I)}, edges, U, sample_ratio=1.0)
    assert bool(one.filter(user, item, new).all()) and not each.filter(user, item, new).any()


@pytest.mark.parametrize('ratio', [0.0, 0.3])
def test_only_a_share_is_checked(ratio):
    torch.manual_seed(0)
    edges = torch.tensor([[0], [0]])
    debias = InterestDebias({'image': torch.tensor([0, 1])}, edges, 1, sample_ratio=ratio)
    n = 20_000
    kept = debias.filter(torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.long), torch.ones(n, dtype=torch.bool))
    assert float((~kept).float().mean()) == pytest.approx(ratio, abs=0.02)


@pytest.mark.parametrize('arguments', [dict(labels={}), dict(decision='first'), dict(sample_ratio=2.0)])
def test_bad_arguments_are_named(arguments):
    options = {'labels': {'image': torch.zeros(2, dtype=torch.long)}, 'edge_index': torch.zeros(2, 1, dtype=torch.long),
               'num_users': 1, **arguments}
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        InterestDebias(**options)
