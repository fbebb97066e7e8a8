import pytest
import torch
from helpers.toy_graphs import BATCH, loss_of, small_genrec, toy_data, train_steps

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.interest import UserInterests, UserInterestsConfig
from genrec_pyg.nn.models import GenRec
from genrec_pyg.ops import unit_rows

LABELS = torch.tensor([0, 0, 1, -1])
#: User 0 has items of both clusters and one of none, user 1 of one cluster, user 2 none.
EDGES = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 2, 3]])


def small(**settings):
    config = UserInterestsConfig(count=2, **settings)
    return UserInterests(LABELS, EDGES, 3, 2, config).double()


def several(count=3, **settings):
    """A model of the toy graph with several interests, without dropout."""
    groups = {'user_interests': {'count': count, **settings}} if count > 1 else {}
    torch.manual_seed(0)
    return GenRec(toy_data(2), **small_genrec(encoder={'dropout': 0.0}, **groups))


USERS = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0]], dtype=torch.float64)
ITEMS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, -1.0]], dtype=torch.float64)


def test_interests_are_the_user_and_the_sum_of_own_items_by_cluster():
    found = small()(USERS, ITEMS)
    half = 0.5**0.5
    # cluster 0: (1, 0) + (half, half); cluster 1: (1, 0) + (0.6, 0.8)
    expected = [[1 + half, half], [1.6, 0.8]]
    rows = torch.tensor(expected, dtype=torch.float64)
    assert torch.allclose(found[0], rows / rows.norm(dim=1, keepdim=True))
    # user 1 has cluster 1 alone, which stands in both places; user 2 no item
    own = torch.tensor([0.6, 1.8], dtype=torch.float64)
    assert torch.allclose(found[1], (own / own.norm()).expand(2, -1))
    assert torch.allclose(found[2], USERS[2].expand(2, -1))


def test_the_target_is_left_out_of_the_sum_of_its_cluster():
    """The loss of a target is that of a graph that lacks the interaction."""
    user, item = torch.tensor([0, 1, 0]), torch.tensor([1, 2, 3])
    for row in range(3):
        module = small(selection='uniform')
        kept = ~((EDGES[0] == user[row]) & (EDGES[1] == item[row]))
        less = UserInterests(LABELS, EDGES[:, kept], 3, 2, UserInterestsConfig(count=2)).double()
        picked = user[row : row + 1]
        interests, there = less.combine(
            USERS[picked], less.sums(ITEMS)[picked], less.num_members[picked]
        )
        scaled, negative = interests / 0.5, ITEMS[[0, 3]]
        logits = torch.cat([scaled @ ITEMS[item[row]].view(-1, 1), scaled @ negative.t()], dim=2)
        each = -logits.log_softmax(dim=2)[0, :, 0]
        best = logits.masked_fill(~there.unsqueeze(2), -torch.inf).logsumexp(dim=1)
        terms = module.loss(
            picked,
            USERS[picked],
            module.sums(ITEMS)[picked],
            item[row : row + 1],
            ITEMS[item[row : row + 1]],
            negative,
            0.5,
        )
        assert torch.allclose(terms['softmax'], each[there[0]].mean())
        assert torch.allclose(terms['multi_interest'], -best.log_softmax(dim=1)[0, 0])


@pytest.mark.parametrize('selection', ['hard', 'p', 'uniform'])
def test_without_a_share_of_the_clusters_it_is_the_model_of_one_embedding(selection):
    single, model = several(1), several(3, selection=selection, multi_loss=False)
    model.load_state_dict(single.state_dict(), strict=False)
    with torch.no_grad():
        model.user_interests.gain.zero_()
    expected, found = single.loss(BATCH), model.loss(BATCH)
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.allclose(expected[name], found[name], atol=1e-5)
    everybody = torch.arange(8)
    assert torch.allclose(single.eval().score(everybody), model.eval().score(everybody), atol=1e-4)


def test_the_best_interest_scores_and_the_rest_of_the_score_is_added_once():
    model = train_steps(several())
    everybody = torch.arange(model.num_users)
    model.interest_weight = 0.0
    with model.cached_embeddings():
        users, items = model.embeddings()
        # and one channel for user 7, who has no training interaction
        assert users.shape == (8, 3, 8 + 1) and items.shape == (7, 8 + 1)
        assert torch.allclose(model.score(everybody), (users @ items.t()).amax(dim=1))
        variance = (users @ items.t()).var(dim=2, correction=0).mean(dim=1)
        assert torch.allclose(variance, torch.ones(8), atol=1e-4)


@pytest.mark.parametrize('selection', ['hard', 'p', 'l', 'uniform'])
def test_every_selection_trains(selection):
    model = train_steps(several(selection=selection))
    assert model.user_interests.gain.detach() != 1
    assert bool(torch.isfinite(model.score(torch.arange(8))).all())


def test_gradients_are_those_of_the_formula():
    model = several(tau=0.0).double()
    model.generator = None
    names = ['user_interests.gain', 'encoder.item_embedding', 'encoder.user_embedding']
    values = [dict(model.named_parameters())[name].detach().clone() for name in names]
    assert torch.autograd.gradcheck(
        lambda *values: loss_of(model, names, values),
        [value.requires_grad_() for value in values],
        atol=1e-5,
    )


def test_a_large_tau_is_hard_and_none_is_uniform():
    rows = unit_rows(torch.randn(5, 2, dtype=torch.float64))
    interests = unit_rows(torch.randn(10, 2, dtype=torch.float64)).view(5, 2, 2)
    shares = {
        name: small(**settings).selection.shares(interests, rows)
        for name, settings in {
            'soft': {'tau': 1e6},
            'hard': {'selection': 'hard'},
            'none': {'tau': 0.0},
            'uniform': {'selection': 'uniform'},
        }.items()
    }
    assert torch.equal(shares['soft'], shares['hard'])
    assert torch.equal(shares['none'], shares['uniform'])


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'count': 0}, 'count: got 0'),
        ({'count': 2.5}, 'count: got 2.5'),
        ({'count': 2, 'selection': 'label_aware'}, "selection: got 'label_aware'"),
        ({'count': 2, 'tau': -1.0}, 'tau: got -1'),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ConfigError, match=message):
        UserInterestsConfig(**settings)


def test_refuses_what_has_no_effect_or_no_clusters():
    with pytest.raises(ConfigError, match='user_interests.count: got 3 on a graph without'):
        GenRec(toy_data(0), **small_genrec(user_interests={'count': 3}))
    with pytest.raises(ConfigError, match='user_interests.count: got 3 with ranking.loss'):
        GenRec(toy_data(2), **small_genrec(ranking={'loss': 'bpr'}, user_interests={'count': 3}))
    with pytest.raises(ConfigError, match=r'user_interests.tau: got 2.0 with user_interests.count'):
        GenRec(toy_data(2), **small_genrec(user_interests={'tau': 2.0}))
