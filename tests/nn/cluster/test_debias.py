from collections import Counter

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.cluster import InterestDebias

U, I = 12, 30


def plain(labels, edges, user, item, added, decision):
    """The rules of the paper, one entry at a time."""
    history = {u: [i for v, i in edges if v == u] for u in range(U)}
    keep = []
    for u, i, new in zip(user, item, added):
        counts = {m: Counter(labels[m][j] for j in history[u] if labels[m][j] >= 0) for m in labels}
        known = [m for m in labels if labels[m][i] >= 0 and counts[m]]
        if not known:
            keep.append(True)
            continue
        if new:
            keep.append(any(counts[m][labels[m][i]] > 0 for m in known))
            continue
        accidental = {m: counts[m][labels[m][i]] <= min(counts[m].values()) + 1 for m in known}
        if decision == 'largest':
            keep.append(accidental[max(known, key=lambda m: counts[m][labels[m][i]])])
        else:
            keep.append(2 * sum(accidental.values()) > len(known))
    return keep


def random_case(seed):
    generator = torch.Generator().manual_seed(seed)
    edges = (torch.rand(U, I, generator=generator) < 0.25).nonzero().t()
    edges = edges[:, edges[0] != 3]  # user 3 has no item
    labels = {
        m: torch.randint(-1, k, (I,), generator=generator)
        for m, k in (('image', 5), ('text', 8), ('audio', 3))
    }
    user = torch.randint(U, (500,), generator=generator)
    item = torch.randint(I, (500,), generator=generator)
    seen = set(map(tuple, edges.t().tolist()))
    added = torch.tensor([(u, i) not in seen for u, i in zip(user.tolist(), item.tolist())])
    return labels, edges, user, item, added


@pytest.mark.parametrize('decision', ['largest', 'majority'])
@pytest.mark.parametrize('modalities', [['image', 'text', 'audio'], ['image']])
@pytest.mark.parametrize('seed', range(4))
def test_equals_the_loop_over_entries(decision, modalities, seed):
    labels, edges, user, item, added = random_case(seed)
    labels = {name: labels[name] for name in modalities}
    debias = InterestDebias(labels, edges, U, sample_ratio=1.0, decision=decision)
    used = {name: label.tolist() for name, label in labels.items()}
    expected = plain(
        used, edges.t().tolist(), user.tolist(), item.tolist(), added.tolist(), decision
    )
    assert debias.filter(user, item, added).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_one_cluster_keeps_every_added_item_and_a_cluster_per_item_undoes_it():
    _, edges, user, item, added = random_case(0)
    user, item = user[added & (user != 3)], item[added & (user != 3)]
    new = torch.ones_like(user, dtype=torch.bool)
    one = InterestDebias({'image': torch.zeros(I, dtype=torch.long)}, edges, U, sample_ratio=1.0)
    each = InterestDebias({'image': torch.arange(I)}, edges, U, sample_ratio=1.0)
    assert bool(one.filter(user, item, new).all()) and not each.filter(user, item, new).any()


def removed(labels, item, **options):
    """Whether user 0, with items 0 to 5, loses ``item``."""
    edges = torch.stack([torch.zeros(6, dtype=torch.long), torch.arange(6)])
    debias = InterestDebias(
        {m: torch.tensor(label) for m, label in labels.items()},
        edges,
        1,
        sample_ratio=1.0,
        **options,
    )
    return bool(debias.filter(torch.tensor([0]), torch.tensor([item]), torch.tensor([False])))


def test_removed_click_by_hand():
    labels = {'image': [0, 0, 0, 0, 1, 1]}  # counts 4 and 2, so at most 3 is accidental
    assert not removed(labels, 0) and removed(labels, 4)
    # item 3: image 2 <= 2 accidental, text 5 > 2 not
    labels = {'image': [0, 0, 0, 1, 1, 2], 'text': [0, 0, 0, 0, 0, 1]}
    # half of the votes restores
    assert not removed(labels, 3) and not removed(labels, 3, decision='majority')
    assert removed({**labels, 'audio': [0, 1, 2, 3, 4, 5]}, 3, decision='majority')


def test_modalities_without_evidence_have_no_say():
    """User 0 has no item with text: what the text cluster of item 6 is tells nothing, its image
    cluster does.
    """
    edges = torch.tensor([[0, 0], [0, 1]])
    user, new = torch.tensor([0]), torch.tensor([True])
    text, image = torch.tensor([-1, -1, 0]), torch.tensor([0, 1, 2])
    assert bool(InterestDebias({'text': text}, edges, 1, 1.0).filter(user, torch.tensor([2]), new))
    assert not bool(
        InterestDebias({'text': text, 'image': image}, edges, 1, 1.0).filter(
            user, torch.tensor([2]), new
        )
    )
    nothing = torch.full((3,), -1)
    assert bool(
        InterestDebias({'text': nothing}, edges, 1, 1.0).filter(user, torch.tensor([2]), new)
    )


def test_generator_repeats_the_choice_and_no_change_is_no_error():
    labels, edges, user, item, added = random_case(1)
    debias = InterestDebias(labels, edges, U, sample_ratio=0.5)
    first = debias.filter(user, item, added, generator=torch.Generator().manual_seed(3))
    assert torch.equal(
        first, debias.filter(user, item, added, generator=torch.Generator().manual_seed(3))
    )
    assert debias.filter(user[:0], item[:0], added[:0]).shape == (0,)


@pytest.mark.parametrize('ratio', [0.0, 0.3])
def test_only_a_share_is_checked(ratio):
    torch.manual_seed(0)
    edges = torch.tensor([[0], [0]])
    debias = InterestDebias({'image': torch.tensor([0, 1])}, edges, 1, sample_ratio=ratio)
    n = 20_000
    kept = debias.filter(
        torch.zeros(n, dtype=torch.long),
        torch.ones(n, dtype=torch.long),
        torch.ones(n, dtype=torch.bool),
    )
    assert float((~kept).float().mean()) == pytest.approx(ratio, abs=0.02)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(labels={}),
        dict(decision='first'),
        dict(sample_ratio=2.0),
        dict(
            labels={
                'image': torch.zeros(2, dtype=torch.long),
                'text': torch.zeros(3, dtype=torch.long),
            }
        ),
    ],
)
def test_bad_arguments_are_named(arguments):
    options = {
        'labels': {'image': torch.zeros(2, dtype=torch.long)},
        'edge_index': torch.zeros(2, 1, dtype=torch.long),
        'num_users': 1,
        **arguments,
    }
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        InterestDebias(**options)
