import copy
import math
import re

import pytest
import torch
import torch.nn.functional as F
import yaml
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.config import resolve_config
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion import DENOISERS
from genrec_pyg.nn.models import DiffMM

U, I = 8, 7
SMALL = {'hidden_channels': 4, 'denoiser': {'channels': 12}, 'generation': {'rebuild_k': 2}}
#: Settings that a denoiser has.
OWN = {'linear': {'rank': 5}, 'transformer': {'num_layers': 1}, 'tied': {'num_layers': 1}}


def small(**arguments):
    """Arguments of a small model; groups are laid over those of ``SMALL``."""
    for name, value in SMALL.items():
        if isinstance(value, dict):
            given = arguments.get(name, {})
            value = OWN.get(given.get('name'), value) if name == 'denoiser' else value
            arguments[name] = {**value, **given}
        else:
            arguments.setdefault(name, value)
    return arguments


def double(data=None, epochs=1, **arguments):
    torch.manual_seed(0)
    model = DiffMM(toy_data() if data is None else data, **small(**arguments)).double()
    for epoch in range(epochs):
        model.start_epoch(epoch)
    return model


def dense(adjacency):
    (row, col), value = adjacency.to_edge_index()
    return torch.zeros(adjacency.size, dtype=torch.float64).index_put((row, col), value.double())


def unit(x):
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)


def plain_views(model):
    """Final view and contrastive views by the formulas of the paper, one modality after the
    other.
    """
    adjacency = torch.eye(U + I, dtype=torch.float64)
    user, item = model.graph.edge_index
    adjacency[user, U + item] = adjacency[U + item, user] = 1
    scale = adjacency.sum(dim=1).rsqrt()
    adjacency = scale[:, None] * adjacency * scale
    users, items = model.embedding.user, model.embedding.item
    weight = model.modal_logits.exp() / model.modal_logits.exp().sum()
    fused, contrasted = 0.0, []
    for m, (name, modality) in enumerate(model.graph.modalities.items()):
        features = unit(modality.pool(model.encoders[name](modality.x.double())))
        graph = dense(model.generators[name].adjacency())
        h = adjacency @ torch.cat([users, features])
        h = h + adjacency @ torch.cat([h[:U], items])
        h = h + 0.2 * graph @ torch.cat([users, items])
        fused = fused + weight[m] * h
        x = graph @ torch.cat([users, features])
        contrasted.append(x + adjacency @ x + adjacency @ adjacency @ x)
    final = fused + adjacency @ fused + adjacency @ adjacency @ fused + 0.5 * unit(fused)
    return final, contrasted


@pytest.mark.parametrize('num_modalities', [1, 2, 3])
def test_views_equal_plain_formula(num_modalities):
    model = double(toy_data(num_modalities), num_layers=2)
    with torch.no_grad():
        model.modal_logits.copy_(torch.linspace(-1, 1, num_modalities))
    final, contrasted = plain_views(model)
    features = {name: unit(x) for name, x in model.features().items()}
    assert torch.allclose(model.fuse(features, model.generated()), final, atol=1e-7)
    found = model.contrast_views(features, model.generated())
    assert len(found) == num_modalities
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(found, contrasted))


@pytest.mark.parametrize('method', ['pairs', 'final'])
def test_contrast_runs_over_all_nodes(method):
    model = double(
        toy_data(3), num_layers=2, contrast_method=method, contrast_weight=0.7, temperature=0.4
    )
    final, views = plain_views(model)
    pairs = (
        [(views[0], views[1]), (views[0], views[2]), (views[1], views[2])]
        if method == 'pairs'
        else [(final, view) for view in views]
    )
    expected = 0.0
    for x, y in pairs:
        for part, index in ((slice(0, U), BATCH.user), (slice(U, None), BATCH.pos)):
            expected = expected + F.cross_entropy(
                unit(x[part])[index] @ unit(y[part]).t() / 0.4, index
            )
    assert torch.allclose(model.loss(BATCH)['contrast'], 0.7 * expected, atol=1e-6)


def test_contrast_of_equal_orthonormal_views():
    """-1 / tau + log(e^(1 / tau) + n - 1) for n nodes, here all users and all items."""
    model = double(contrast_weight=1.0)
    views = torch.cat([torch.eye(U), torch.eye(U)[:I]]).double()
    model.contrast_views = lambda features, generated: [views, views]
    expected = sum(-2 + math.log(math.exp(2) + n - 1) for n in (U, I))
    assert model.loss(BATCH)['contrast'].item() == pytest.approx(expected)


def test_one_modality_has_weight_one_and_no_pair():
    model = double(toy_data(1))
    assert model.modal_logits.softmax(dim=0).tolist() == [1.0]
    assert set(model.loss(BATCH)) == {'bpr', 'l2'}
    assert set(double(toy_data(1), contrast_method='final').loss(BATCH)) == {
        'bpr',
        'l2',
        'contrast',
    }


def test_before_the_first_epoch_there_is_no_generated_graph():
    model = double(epochs=0)
    assert model.generated() == {} and set(model.loss(BATCH)) == {'bpr', 'l2'}
    assert all(bool(torch.isfinite(x).all()) for x in model.embed())


def test_penalty_counts_whole_tables():
    model = double(l2=2.0)
    tables = model.embedding.user, model.embedding.item
    assert torch.allclose(model.loss(BATCH)['l2'], 2 * sum(x.square().sum() for x in tables))


def test_transforms():
    data = toy_data(2)
    x = data['image'].x.double()
    bilinear, mixed, linear = (
        double(data, transform=name) for name in ('bilinear', 'mixed', 'linear')
    )
    product = x @ bilinear.encoders['image'].linear.weight.t()
    assert torch.allclose(bilinear.features()['image'], F.leaky_relu(product, 0.2))
    for model, kinds in (
        (bilinear, (False, False)),
        (mixed, (False, True)),
        (linear, (True, True)),
    ):
        assert (
            tuple(model.encoders[name].linear.bias is not None for name in ('image', 'text'))
            == kinds
        )
    encoder = linear.encoders['image'].linear
    assert torch.allclose(linear.features()['image'], x @ encoder.weight.t() + encoder.bias)


@pytest.mark.parametrize('process', ['gaussian', 'flip'])
def test_generated_graphs_hold_the_best_entries_of_the_denoisers(process):
    model = double(diffusion={'process': process, 'start': 'observed'}, epochs=2)
    views = model.item_views()
    for name, generator in model.generators.items():
        rows = generator.rows(torch.arange(U))
        logits = generator.denoiser.eval()(rows, torch.zeros(U, dtype=torch.long), views[name])
        best = logits.topk(2, dim=1).indices
        expected = {
            (user, int(item)) for user in range(U) for item in best[user] if logits[user, item] > 0
        }
        assert set(map(tuple, generator.edges.edge_index.t().tolist())) == expected


def test_perfect_denoisers_generate_training_edges():
    model = double(generation={'rebuild_k': 1})
    clean = torch.zeros(U, I, dtype=torch.float64)
    clean[model.graph.edge_index[0], model.graph.edge_index[1]] = 1
    generator = model.generators['image']
    generator.denoiser.query = lambda state, t, views: clean  # with the unit matrix as keys
    generator.denoiser.keys = lambda views: torch.eye(I, dtype=torch.float64)
    assert generator.generate(model.item_views()['image'])['share_new_edges'] == 0
    user, item = generator.edges.edge_index
    # user 7 has no item
    assert bool(clean[user, item].all()) and user.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_one_word_swaps_the_process():
    """Same seed, same everything but the noise."""
    noise, flips = double(epochs=0), double(epochs=0, diffusion={'process': 'flip'})
    assert all(
        torch.equal(a, b)
        for a, b in zip(noise.state_dict().values(), flips.state_dict().values())
        if isinstance(a, torch.Tensor)
    )
    assert {type(g.process).__name__ for g in noise.generators.values()} == {'GaussianProcess'}
    assert {type(g.process).__name__ for g in flips.generators.values()} == {'FlipProcess'}
    first, second = noise.start_epoch(0), flips.start_epoch(0)
    assert first.keys() == second.keys() and {
        'image_denoiser_squared',
        'image_share_new_edges',
        'text_denoiser_signal',
        'text_generated_edges',
    } <= set(first)


@pytest.mark.parametrize('process', ['gaussian', 'flip'])
@pytest.mark.parametrize('denoiser', DENOISERS)
def test_every_denoiser_serves_both_processes(process, denoiser):
    model = double(diffusion={'process': process, 'start': 'diffused'}, denoiser={'name': denoiser})
    sum(model.loss(BATCH).values()).backward()
    assert bool(torch.isfinite(model.eval().score(torch.arange(U))).all())


@pytest.mark.parametrize(
    'arguments',
    [
        dict(diffusion={'weighting': 'equal'}),
        dict(diffusion={'sample_noise': True}),
        dict(generation={'candidates': 'new'}),
        dict(generation={'edge_dropout': 0.0}),
        dict(denoiser_training={'signal_weight': 0.0}),
        dict(denoiser_training={'objective': 'multinomial'}),
        dict(denoiser_training={'objective': 'bce'}, diffusion={'process': 'flip'}),
        dict(modalities=['text']),
        dict(num_layers=0),
        dict(denoiser_training={'batch_size': 3}),
        dict(denoiser={'normalize': True}),
        dict(denoiser={'normalize': True}, diffusion={'process': 'flip'}),
    ],
)
def test_every_switch_trains(arguments):
    model = double(epochs=2, **arguments)
    assert all(bool(torch.isfinite(term)) for term in model.loss(BATCH).values())


def test_trainer_and_denoisers_own_different_parameters():
    model = double()
    owned = {id(p) for p in model.trained_parameters()}
    denoisers = {id(p) for g in model.generators.values() for p in g.denoiser.parameters()}
    assert owned and denoisers and not owned & denoisers
    assert owned | denoisers == {id(p) for p in model.parameters()}
    sum(model.loss(BATCH).values()).backward()
    assert all(bool(p.grad.any()) for p in model.trained_parameters())
    assert all(p.grad is None for g in model.generators.values() for p in g.denoiser.parameters())


def test_denoisers_see_modality_signals_without_teaching_the_recommender():
    model = double()
    for views in model.item_views().values():
        assert not views.features.requires_grad and not views.items.requires_grad
        assert torch.allclose(views.embedding, views.features * views.items)


def test_state_holds_generated_graphs_and_the_optimizers_of_the_denoisers():
    model = double(epochs=2)
    other = double(epochs=0)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    for name in model.generators:
        assert torch.equal(
            dense(model.generators[name].adjacency()), dense(other.generators[name].adjacency())
        )
    for one in (model, other):
        torch.manual_seed(5)
        one.start_epoch(2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters()))


def test_shipped_defaults_are_those_of_the_published_program():
    def hparams(dataset):
        return resolve_config('DiffMM', dataset).hparams

    assert (
        hparams('tiktok')['contrast_method'],
        hparams('tiktok')['transform'],
        hparams('tiktok')['l2'],
    ) == ('final', 'linear', 1e-4)
    assert (
        hparams('baby')['contrast_weight'],
        hparams('baby')['generation']['edge_dropout'],
        hparams('baby')['l2'],
    ) == (0.1, 0.0, 1e-5)
    assert (hparams('sports')['temperature'], hparams('sports')['residual_weight']) == (0.1, 0.1)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(diffusion={'process': 'noise'}),
        dict(denoiser={'name': 'unet'}),
        dict(transform='cubic'),
        dict(contrast_method='all'),
        dict(diffusion={'start': 'noise'}),
        dict(denoiser_training={'objective': 'mse'}),
        dict(diffusion={'weighting': 'kl'}),
        dict(generation={'rebuild_k': 0}),
        dict(num_layers=-1),
        dict(diffusion={'num_steps': 0}),
        dict(generation={'edge_dropout': 1.0}),
        dict(temperature=0.0),
        dict(contrast_weight=-1.0),
        dict(denoiser_training={'signal_weight': -1.0}),
        dict(denoiser={'channels': 0}),
        dict(denoiser_training={'batch_size': 0}),
        dict(denoiser={'dropout': 1.0}),
        dict(denoiser_training={'lr': 0.0}),
        dict(generation={'weight': -1.0}),
        dict(residual_weight=-1.0),
    ],
)
def test_bad_arguments_are_named(arguments):
    ((name, value),) = arguments.items()
    if isinstance(value, dict):
        ((setting, value),) = value.items()
        name = f'{name}.{setting}'
    with pytest.raises(ConfigError, match=f'(^|[^.]){re.escape(name)}: got'):
        DiffMM(toy_data(), **small(**arguments))


def test_noise_beyond_the_schedule_is_refused():
    with pytest.raises(ConfigError, match='noise_scale: got 10000'):
        DiffMM(toy_data(), **small(diffusion={'noise_scale': 1e4}))


def test_settings_of_another_denoiser_are_refused():
    for denoiser, training, message in (
        ({'name': 'linear'}, {'objective': 'bce'}, "denoiser_training.objective: got 'bce'"),
        ({'name': 'linear', 'channels': 8}, {}, 'denoiser.channels: got 8'),
        ({'rank': 8}, {}, "denoiser.rank: got 8 with denoiser.name='perceptron'"),
    ):
        with pytest.raises(ConfigError, match=message):
            DiffMM(toy_data(), denoiser=denoiser, denoiser_training=training, hidden_channels=8)


def test_settings_of_earlier_versions_are_read(tmp_path):
    path = tmp_path / 'config.yaml'
    before = {'denoiser': 'tied', 'denoiser_layers': 3, 'generated_weight': 0.4, 'keep': 0.75}
    path.write_text(yaml.safe_dump({'model': 'DiffMM', 'hparams': before}))
    hparams = resolve_config(file=path).hparams
    assert hparams['denoiser']['name'] == 'tied' and hparams['denoiser']['num_layers'] == 3
    assert hparams['generation']['weight'] == 0.4 and hparams['generation']['edge_dropout'] == 0.25
    with pytest.raises(ConfigError, match='rebuild_k: no such setting; it is generation.rebuild_k'):
        DiffMM(toy_data(), rebuild_k=2)
