import math

import pytest
import torch
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.models import SLMRec
from genrec_pyg.nn.models.multimodal.slmrec import AlignmentChain
from genrec_pyg.ops import info_nce

#: Item 2 has no edge.
GRAPH = TrainingGraph(
    2, 3, torch.tensor([[0, 0, 1], [0, 1, 1]]), {'image': Modality('image', torch.ones(3, 1), 3)}
)
PRESENT = {name: torch.ones(5, dtype=torch.bool) for name in ('image', 'text')}


def small(num_modalities=2, partial=False, **arguments):
    return SLMRec(
        toy_data(num_modalities, partial=partial), hidden_channels=4, **arguments
    ).double()


def test_views_by_hand():
    """Items start from 3, 4, 5 and from 0, 1, -1; both views start from users 1, 2."""
    model = SLMRec(GRAPH, hidden_channels=1).double()
    with torch.no_grad():
        model.embedding.user.copy_(torch.tensor([[1.0], [2.0]]))
    starts = [torch.tensor(rows).double().unsqueeze(1) for rows in ([3.0, 4, 5], [0.0, 1, -1])]
    users, items = model.views(starts)
    assert users[:, 0, 0].tolist() == pytest.approx([2.667354, 2.263325], abs=1e-6)
    assert items[:, 0, 0].tolist() == pytest.approx([1.912913, 2.915133, 1.25], abs=1e-6)
    assert users[:, 1, 0].tolist() == pytest.approx([0.895527, 1.147748], abs=1e-6)
    assert items[:, 1, 0].tolist() == pytest.approx([0.522748, 1.337468, -0.25], abs=1e-6)


def test_views_without_dropout_equal_those_of_plain_propagation():
    model = small(dropout=0.0)
    starts = model.starts()
    for found, expected in zip(model.dropped_views(starts), model.views(starts)):
        assert torch.allclose(found, expected, atol=1e-12)


def test_content_is_projected_from_unit_features():
    model = small(partial=True)
    image = torch.nn.functional.normalize(toy_data(partial=True)['image'].x.double(), dim=1)
    start = model.starts()[1]
    assert (
        torch.allclose(start[:6], model.projections['image'].linear(image)) and not start[6].any()
    )


@pytest.mark.parametrize(
    'rows,expected',
    [
        (torch.eye(2), math.log(1 + math.exp(-5))),
        (torch.ones(4, 2), math.log(4)),
        (torch.ones(1, 2), 0.0),
    ],
)
def test_ranking_by_hand(rows, expected, monkeypatch):
    """Temperature 0.2: two orthogonal pairs, four equal rows, one pair."""
    model = SLMRec(toy_data(), hidden_channels=2, task='none')
    count = len(rows)
    monkeypatch.setattr(model, 'views', lambda starts: (rows.unsqueeze(1), rows.unsqueeze(1)))
    monkeypatch.setattr(model, 'fuse', lambda views, fusion: 3 * views[:, 0])  # of any length
    nodes = torch.arange(count)
    assert model.loss(Triples(nodes, nodes, nodes))['contrast'].item() == pytest.approx(
        expected, abs=1e-6
    )


def test_a_repeated_item_is_not_its_own_negative_unless_asked():
    """Three pairs, two of the same item, all rows equal: two candidates or three."""
    for mask, expected in ((True, math.log(2)), (False, math.log(3))):
        model = SLMRec(toy_data(), hidden_channels=2, task='none', mask_duplicates=mask)
        for fusion in (model.user_fusion, model.item_fusion):
            torch.nn.init.zeros_(fusion.weight)
            torch.nn.init.ones_(fusion.bias)
        triples = Triples(torch.tensor([0, 1, 4]), torch.tensor([0, 2, 2]), torch.tensor([3, 3, 3]))
        assert model.loss(triples)['contrast'].item() == pytest.approx(expected)


def test_alignment_equals_the_plain_formula():
    chain = AlignmentChain(['image', 'text'], 4).double()
    views = torch.randn(5, 3, 4, dtype=torch.float64)
    first = chain.maps['image'](views[:, 0])
    second = chain.maps['text'](first)
    assert second.shape == (5, 2)
    expected = 0
    for rows, other in (
        (first, views[:, 1] @ chain.heads['image'].weight.t()),
        (second, views[:, 2] @ chain.heads['text'].weight.t()),
    ):
        logits = rows @ other.t() / 0.5
        expected = expected + (logits.logsumexp(dim=1) - logits.diagonal()).mean()
    assert torch.allclose(chain(views, PRESENT, 0.5), expected)


def test_equal_heads_give_the_logarithm_of_the_batch_per_space():
    chain = AlignmentChain(['image', 'text'], 4).double()
    views = torch.randn(5, 3, 4, dtype=torch.float64)
    views[:, 1:] = 1.0
    assert chain(views, PRESENT, 0.5).item() == pytest.approx(2 * math.log(5))


def test_a_vector_added_to_all_outputs_of_a_head_changes_nothing():
    chain = AlignmentChain(['image', 'text'], 4).double()
    views = torch.randn(5, 3, 4, dtype=torch.float64)
    before = chain(views, PRESENT, 0.5)
    chain.heads['image'].register_forward_hook(lambda module, inputs, out: out + torch.arange(4.0))
    assert torch.allclose(chain(views, PRESENT, 0.5), before, atol=1e-10)


def test_a_single_space_has_the_whole_width():
    assert AlignmentChain(['image'], 4).maps['image'].weight.shape == (4, 4)
    assert AlignmentChain(['image', 'text'], 1).maps['text'].weight.shape == (1, 1)


def test_items_without_a_modality_leave_its_space():
    chain = AlignmentChain(['image', 'text'], 4).double()
    views = torch.randn(5, 3, 4, dtype=torch.float64)
    some = torch.tensor([True, False, True, True, False])
    found = chain(views, {'image': PRESENT['image'], 'text': some}, 0.5)
    nobody = chain(
        views, {'image': PRESENT['image'], 'text': torch.zeros(5, dtype=torch.bool)}, 0.5
    )
    alone = chain(views[some], {name: torch.ones(3, dtype=torch.bool) for name in PRESENT}, 0.5)
    image_alone = chain(
        views[some],
        {'image': torch.ones(3, dtype=torch.bool), 'text': torch.zeros(3, dtype=torch.bool)},
        0.5,
    )
    assert torch.allclose(found - nobody, alone - image_alone)


@pytest.mark.parametrize('mask', [True, False])
def test_equal_passes_are_their_own_positives(mask):
    model = small(
        task='fd', dropout=0.0, task_temperature=0.5, task_weight=0.1, mask_duplicates=mask
    )
    users, items = model.embed()
    user, item = (BATCH.user.unique(), BATCH.pos.unique()) if mask else (BATCH.user, BATCH.pos)
    expected = sum(info_nce(x, x, 0.5) for x in (users[user], items[item]))
    assert torch.allclose(model.loss(BATCH)['task'], 0.1 * expected)


def test_dropout_differs_between_passes_and_scales_what_is_left():
    model = small(task='fd', dropout=0.5, num_layers=1)
    starts = model.starts()
    torch.manual_seed(0)
    many = torch.stack([model.dropped_views(starts)[0] for _ in range(2000)])
    expected = model.views(starts)[0]
    assert float((many.mean(dim=0) - expected).abs().max().detach()) < 0.1 * float(
        expected.abs().max().detach()
    )
    assert not torch.equal(many[0], many[1])
    assert torch.equal(model.eval().dropped_views(starts)[0], model.dropped_views(starts)[0])


def test_masking_takes_two_different_views_away(monkeypatch):
    model, seen = small(task='fm', num_modalities=2), []
    views = model.views
    monkeypatch.setattr(model, 'views', lambda starts: seen.append(starts) or views(starts))
    pairs = set()
    for _ in range(30):
        seen.clear()
        model.loss(BATCH)
        assert len(seen) == 3 and all(bool(x.any()) for x in seen[0])
        silent = [[k for k, x in enumerate(starts) if not x.any()] for starts in seen[1:]]
        assert all(len(streams) == 1 for streams in silent)
        pairs.add((silent[0][0], silent[1][0]))
    assert len(pairs) == 6 and all(a != b for a, b in pairs)


@pytest.mark.parametrize('task', ['fac', 'fd', 'fm', 'fd+fm', 'none'])
@pytest.mark.parametrize('fusion', ['concat', 'mean'])
@pytest.mark.parametrize('num_modalities', [1, 3])
def test_tasks_and_fusions_train(task, fusion, num_modalities):
    model = small(num_modalities, partial=True, task=task, fusion=fusion)
    terms = model.loss(BATCH)
    assert ('task' in terms) == (task != 'none') and all(
        bool(torch.isfinite(value)) for value in terms.values()
    )
    sum(terms.values()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_cosine_scores():
    model, other = small(), small(score_by='cosine')
    other.load_state_dict(model.state_dict())
    users, items = (torch.nn.functional.normalize(x, dim=1) for x in model.embed())
    assert torch.allclose(other.score(torch.arange(8)), users @ items.t())


def test_order_of_modalities_changes_no_score():
    model = SLMRec(toy_data(3), hidden_channels=4).double()
    other = SLMRec(toy_data(3), ['audio', 'image', 'text'], hidden_channels=4).double()
    state = {key: value for key, value in model.state_dict().items() if not key.startswith('chain')}
    for key in ('user_fusion.weight', 'item_fusion.weight'):
        rows, image, text, audio = state[key].split(4, dim=1)
        state[key] = torch.cat([rows, audio, image, text], dim=1)
    other.load_state_dict(state, strict=False)
    assert torch.allclose(model.score(torch.arange(8)), other.score(torch.arange(8)))


@pytest.mark.parametrize(
    'arguments',
    [
        dict(task='x'),
        dict(fusion='x'),
        dict(score_by='x'),
        dict(num_layers=-1),
        dict(task_weight=-1.0),
        dict(temperature=0.0),
        dict(task_temperature=0.0),
        dict(dropout=1.5),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        SLMRec(toy_data(), **arguments)
