import math

import pytest
import torch
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.models import MVGAE
from genrec_pyg.nn.models.multimodal import mvgae
from genrec_pyg.nn.variational import Gaussian


def expert_by_hand(model, expert, features):
    """The encoder written out with dense matrices."""
    edges, (users, items) = model.graph.edge_index, (model.num_users, model.num_items)
    adjacency = torch.zeros(users, items, dtype=torch.float64).index_put(
        tuple(edges), torch.ones(edges.size(1)).double()
    )
    joint = torch.eye(users + items, dtype=torch.float64)
    joint[:users, users:], joint[users:, :users] = adjacency, adjacency.t()
    mean = joint / joint.sum(1, keepdim=True)

    def norm(x):
        return x / x.norm(dim=1, keepdim=True)

    def leaky(x):
        return torch.where(x > 0, x, 0.01 * x)

    def conv(layer, x):
        return layer.linear(leaky(norm(mean @ (x @ layer.weight) + layer.bias)))

    x = norm(torch.cat([expert.preference, features @ expert.input.weight.t() + expert.input.bias]))
    for layer in expert.layers:
        x = leaky(conv(layer, x))
    return [conv(head, x) + leaky(skip(x)) for head, skip in zip(expert.heads, expert.skips)]


@pytest.mark.parametrize('num_layers', [0, 1, 2])
def test_encoder_equals_dense_formulas(num_layers):
    model = (
        MVGAE(toy_data(), hidden_channels=4, latent_channels=6, num_layers=num_layers)
        .double()
        .eval()
    )
    features = [model.features['image'].x, model.features['text'].x, model.item_table]
    for found, expert, x in zip(model.posteriors(), model._experts(), features):
        mean, log_variance = expert_by_hand(model, expert, x)
        assert torch.allclose(found.mean, mean) and torch.allclose(found.log_variance, log_variance)


def test_mean_over_neighbors_by_hand():
    data = TrainingGraph(
        2, 3, torch.tensor([[0, 0, 1], [0, 1, 1]]), {'a': Modality('a', torch.ones(3, 2), 3)}
    )
    model = MVGAE(data, hidden_channels=1)
    layer = mvgae.MeanConv(1, 1, 0.0)
    torch.nn.init.ones_(layer.weight)
    found = mvgae._means(
        model.adjacency, [torch.tensor([[1.0], [2], [3], [4], [5]])] * 2, [layer] * 2
    )
    for mean in found:
        assert mean.view(-1).tolist() == pytest.approx([2.666667, 3, 2, 2.333333, 5], abs=1e-6)


def test_the_loss_is_ranking_and_distance_of_every_distribution(monkeypatch):
    model = MVGAE(
        toy_data(1), hidden_channels=2, squash=False, noise_scale=0.0, kl_weight=0.5, l2=0.1
    )
    mean = torch.zeros(15, 2)
    mean[0], mean[8], mean[11] = (
        torch.tensor([1.0, 1.0]),
        torch.tensor([2.0, 0.0]),
        torch.tensor([0.5, 0.5]),
    )
    monkeypatch.setattr(model, 'posteriors', lambda: [Gaussian(mean, torch.zeros(15, 2))] * 3)
    terms = model.loss(Triples(torch.tensor([0]), torch.tensor([0]), torch.tensor([3])))
    assert terms['bpr'].item() == pytest.approx(3 * 0.451941, abs=1e-5)  # scores 2 and 1
    assert terms['kl'].item() == pytest.approx(0.5 * 3 * (2 + 4 + 0.5) / 2 / 15, rel=1e-5)
    assert terms['l2'].item() == pytest.approx(0.1 * 3 * (2 + 4 + 0.5) / 2, rel=1e-5)


def test_a_squashed_zero_is_half_in_every_channel():
    model = MVGAE(toy_data(1), hidden_channels=64)
    model.posteriors = lambda: [Gaussian(torch.zeros(15, 64), torch.zeros(15, 64))] * 3
    assert model.score(torch.tensor([0]))[0, 0].item() == pytest.approx(16)


def test_evaluation_ranks_by_means_and_training_by_samples():
    model = MVGAE(toy_data(), hidden_channels=4, dropout=0.0).eval()
    users, items = model.embed()
    mean = model.posteriors()[-1].mean.sigmoid()
    assert torch.equal(torch.cat([users, items]), mean)
    assert not torch.equal(model.loss(BATCH)['bpr'], model.loss(BATCH)['bpr'])
    assert torch.equal(model.loss(BATCH)['kl'], model.loss(BATCH)['kl'])


def test_an_item_without_a_modality_is_known_by_the_others():
    # item 6 has no image
    model = MVGAE(toy_data(1, partial=True), hidden_channels=4).double().eval()
    image, free, product = model.posteriors()
    assert torch.allclose(product.mean[8 + 6], free.mean[8 + 6]) and not torch.allclose(
        product.mean[8 + 5], free.mean[8 + 5]
    )
    with torch.no_grad():
        model.experts['image'].input.bias += 1  # moves the image row of item 6 too
    assert torch.allclose(model.posteriors()[-1].mean[8 + 6], free.mean[8 + 6])


def test_triples_with_an_item_that_lacks_the_modality_take_no_part_in_its_ranking():
    model = MVGAE(toy_data(1, partial=True), hidden_channels=4, noise_scale=0.0).eval()
    lacking = Triples(torch.tensor([0]), torch.tensor([0]), torch.tensor([6]))
    gaps = []
    for posterior in model.posteriors()[1:]:
        users, items = posterior.mean.sigmoid().split([8, 7])
        gaps.append((users[0] * (items[6] - items[0])).sum())
    expected = sum(torch.nn.functional.softplus(gap) for gap in gaps) / math.log(2)
    assert model.loss(lacking)['bpr'].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(latent_channels=0),
        dict(num_layers=-1),
        dict(kl_weight=-1.0),
        dict(dropout=1.5),
        dict(noise_scale=-1.0),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        MVGAE(toy_data(), **arguments)
