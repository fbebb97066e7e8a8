import copy
import re

import pytest
import torch
from helpers.toy_graphs import loss_of, small_genrec, toy_data, train_steps

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import Triples
from genrec_pyg.nn.diffusion import DenoiserConfig, LinearDenoiser
from genrec_pyg.nn.interest import InterestConfig
from genrec_pyg.nn.models import GenRec, get_model
from genrec_pyg.nn.models.multimodal.genrec_released import ReleasedGenerator
from genrec_pyg.nn.models.settings import nested
from genrec_pyg.ops import unit_rows
from genrec_pyg.training import Trainer

#: Triples of which no node is the positive twice.
BATCH = Triples(torch.tensor([0, 1, 4, 6]), torch.tensor([0, 2, 2, 5]), torch.tensor([3, 4, 5, 6]))


@pytest.mark.parametrize('denoiser', ['linear', 'transformer', 'tied'])
@pytest.mark.parametrize('num_modalities', [0, 1, 2, 3])
def test_trains_with_every_denoiser_and_number_of_modalities(denoiser, num_modalities):
    model = train_steps(GenRec(toy_data(num_modalities), **small_genrec(denoiser)))
    score = model.score(torch.arange(8))
    assert score.shape == (8, 7) and bool(torch.isfinite(score).all())
    assert torch.equal(score, model.score(torch.arange(8)))
    with model.cached_embeddings():
        assert torch.equal(score, model.score(torch.arange(8)))


def generation(**settings):
    return dict(generation=settings)


def training(**settings):
    return dict(denoiser_training=settings)


@pytest.mark.parametrize(
    'denoiser, arguments',
    [
        ('linear', dict(modalities=['text'])),
        ('linear', dict(interest={'weight': 0.0})),
        ('linear', dict(interest={'weight': 1.0})),
        ('linear', dict(contrast={'view_weight': 0.0, 'pair_weight': 0.0})),
        ('linear', generation(rebuild_k=0)),
        ('linear', dict(diffusion={'start': 'diffused'})),
        (
            'linear',
            generation(final='sample', candidates='all', edge_weight='binary', edge_dropout=0.5),
        ),
        ('linear', dict(encoder={'side_in_score': False})),
        ('linear', dict(encoder={'merge': 'sum', 'svt': 0.2})),
        *(
            ('linear', dict(debias={'clusters': clusters}))
            for clusters in ('spectral', 'eigengap', 'auto', {'image': 2, 'text': 3})
        ),
        ('perceptron', {}),
        ('transformer', dict(variant='released')),
        ('transformer', dict(variant='released', debias={'enabled': True})),
        ('tied', training(objective='focal', focal_alpha=0.5, variational_weight=0.1)),
        ('tied', training(num_negatives=3)),
        ('tied', training(objective='bce', contrast_weight=0.0)),
    ],
)
def test_every_switch_trains(denoiser, arguments):
    model = train_steps(GenRec(toy_data(), **small_genrec(denoiser, **arguments)))
    assert bool(torch.isfinite(model.score(torch.arange(8))).all())


@pytest.mark.parametrize(
    'arguments', [dict(generation={'enabled': False}), dict(debias={'enabled': False})]
)
def test_what_is_switched_off_is_not_made(arguments):
    model = train_steps(GenRec(toy_data(), hidden_channels=8, **arguments))
    assert model.generator is None or model.generator.debias is None
    assert bool(torch.isfinite(model.score(torch.arange(8))).all())


@pytest.mark.parametrize(
    'denoiser, arguments',
    [
        ('linear', {}),
        ('perceptron', dict(diffusion={'process': 'gaussian', 'start': 'diffused'})),
        ('tied', training(variational_weight=0.1)),
        (
            'transformer',
            {
                **training(objective='squared'),
                'diffusion': {'process': 'gaussian', 'start': 'clean'},
            },
        ),
    ],
)
def test_gaussian_noise_takes_the_place_of_the_flips(denoiser, arguments):
    arguments = {'diffusion': {'process': 'gaussian'}, **arguments}
    model = train_steps(GenRec(toy_data(), **small_genrec(denoiser, **arguments)))
    assert not model.generator.process.binary
    assert bool(torch.isfinite(model.score(torch.arange(8))).all())


RELEASED, PRINCIPLED = {'variant': 'released'}, {'variant': 'principled'}
LINEAR = {'denoiser.name': 'linear'}
TIED = {'denoiser.name': 'tied'}
WITHOUT = {'generation.enabled': False}


@pytest.mark.parametrize(
    'by, name, value, accepted',
    [
        (RELEASED, 'diffusion.process', 'gaussian', 'flip'),
        (RELEASED, 'denoiser.name', 'tied', 'transformer'),
        (RELEASED, 'diffusion.start', 'clean', 'diffused'),
        (RELEASED, 'interest.weight', 0.5, 0.0),
        (RELEASED, 'denoiser_training.objective', 'bce', 'focal'),
        (RELEASED, 'denoiser_training.variational_weight', 0.1, 0.0),
        (RELEASED, 'denoiser_training.contrast_weight', 0.1, 0.0),
        (PRINCIPLED, 'diffusion.flip_temp', 2.0, 1.0),
        (RELEASED, 'denoiser.rank', 8, 256),
        (WITHOUT, 'interest.weight', 0.5, 0.0),
        (WITHOUT, 'debias.enabled', True, False),
        (WITHOUT, 'diffusion.process', 'gaussian', 'flip'),
        (WITHOUT, 'denoiser.rank', 8, 256),
        (WITHOUT, 'generation.topk', 9, 5),
        (WITHOUT, 'debias.clusters', 3, 20),
        (LINEAR, 'denoiser_training.objective', 'bce', 'squared'),
        (LINEAR, 'denoiser_training.variational_weight', 0.1, 0.0),
        (LINEAR, 'denoiser_training.num_negatives', 3, 0),
        (LINEAR, 'denoiser.num_layers', 2, 6),
        (LINEAR, 'denoiser_training.lr', 0.1, 0.001),
        (TIED, 'denoiser.rank', 8, 256),
        (TIED, 'denoiser.modality_weight', 3.0, 50.0),
        ({'denoiser.name': 'perceptron'}, 'denoiser.num_layers', 2, 6),
        ({'debias.enabled': False}, 'debias.sample_ratio', 1.0, 0.1),
    ],
)
def test_a_setting_without_effect_is_refused(by, name, value, accepted):
    ((key, cause),) = by.items()
    message = f'{name}: got {value!r} with {key}={cause!r}, accepted is {accepted!r}'
    with pytest.raises(ConfigError, match=re.escape(message)):
        GenRec(toy_data(), **nested({'hidden_channels': 8, **by, name: value}))
    GenRec(toy_data(), **nested({'hidden_channels': 8, **by, name: accepted}))


def test_the_released_variant_has_the_specific_part_of_audio_alone():
    released = small_genrec('transformer', variant='released')
    message = r"encoder.specific: got \['text'\] with variant='released', accepted is \['audio'\]"
    with pytest.raises(ConfigError, match=message):
        GenRec(toy_data(3), encoder={'specific': ['text']}, **released)
    for specific in (None, ['audio']):
        assert GenRec(toy_data(3), encoder={'specific': specific}, **released).encoder.specific == [
            2
        ]
    assert GenRec(toy_data(2), encoder={'specific': ['text']}, **released).encoder.specific == [1]


def test_loss_terms():
    model = GenRec(toy_data(), **small_genrec())
    assert set(model.loss(BATCH)) == {'softmax', 'l2', 'contrast_views', 'contrast_pairs'}
    assert set(
        GenRec(
            toy_data(),
            **small_genrec(
                contrast={'view_weight': 0.0, 'pair_weight': 0.0}, ranking={'loss': 'bpr'}
            ),
        ).loss(BATCH)
    ) == {'bpr', 'l2'}
    assert set(GenRec(toy_data(), modalities=[], **small_genrec()).loss(BATCH)) == {'softmax', 'l2'}
    model.l2 = 2.0
    tables = model.encoder.user_embedding, model.encoder.item_embedding
    assert float(model.loss(BATCH)['l2']) == pytest.approx(
        2 * float(sum(x.square().sum() for x in tables)), rel=1e-5
    )


def test_a_loss_in_parts_is_the_loss_of_the_whole_batch():
    model = (
        GenRec(toy_data(), **small_genrec(contrast={'group_size': 2}, encoder={'dropout': 0.0}))
        .double()
        .train()
    )
    model.start_epoch(0)
    whole = model.loss(BATCH)
    sum(whole.values()).backward()
    expected = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    model.zero_grad()
    model.loss_rows = 2
    parts = model.loss(BATCH)
    sum(parts.values()).backward()
    found = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    assert expected.keys() == found.keys() and parts.keys() == whole.keys()
    for name, value in whole.items():
        assert float(parts[name]) == pytest.approx(float(value), rel=1e-10)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


def test_held_out_edges_change_no_embedding():
    torch.manual_seed(0)
    first = train_steps(GenRec(toy_data(), **small_genrec())).embed()
    torch.manual_seed(0)
    second = train_steps(
        GenRec(toy_data(held_out=torch.tensor([[7, 3, 5], [6, 0, 1]])), **small_genrec())
    ).embed()
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_without_generation_nothing_is_generated():
    model = GenRec(toy_data(), hidden_channels=8, generation={'enabled': False})
    assert model.generator is None and model.start_epoch(0) == {}
    users, items = model.embed()
    assert users.size(1) == items.size(1) == 8 + 1  # user 7 has no training interaction


def test_score_mixes_parts_of_unit_deviation():
    torch.manual_seed(0)
    model = train_steps(GenRec(toy_data(), **small_genrec(interest={'weight': 0.3})))
    model.choose(toy_data())
    users, items = model.views().embedding.split([8, 7])
    content = users @ unit_rows(items).t()
    content = content / content.std(dim=1, correction=0, keepdim=True)
    user, content = torch.arange(7), content[:7]  # user 7 has no training interaction
    assert torch.allclose(
        model.score(user), 0.7 * content + 0.3 * model.interest.score(user), atol=1e-4
    )
    with model.parts()['graph']:
        assert torch.allclose(model.score(user), content, atol=1e-4)
    with model.parts()['interest']:
        assert torch.allclose(model.score(user), model.interest.score(user), atol=1e-5)
    assert model.interest_weight == 0.3


def test_a_trained_denoiser_gives_the_interest():
    torch.manual_seed(0)
    model = train_steps(
        GenRec(
            toy_data(), **small_genrec('tied', interest={'weight': 0.3}, ranking={'loss': 'bpr'})
        )
    )
    users, items = model.views().embedding.split([8, 7])
    query, keys = model.generator.predict(model.item_views())
    parts = [
        x / x.std(dim=1, correction=0, keepdim=True) for x in (users @ items.t(), query @ keys.t())
    ]
    found, expected = model.score(torch.arange(8)), 0.7 * parts[0] + 0.3 * parts[1]
    assert torch.allclose(found[:7], expected[:7], atol=1e-3)


@pytest.mark.parametrize('denoiser', ['linear', 'tied'])
@pytest.mark.parametrize('weight', [0.0, 0.3, 1.0])
def test_users_of_whom_nothing_is_known_get_what_is_popular(denoiser, weight):
    data = toy_data()
    model = train_steps(GenRec(data, **small_genrec(denoiser, interest={'weight': weight})))
    model.choose(data)
    degree = model.graph.item_degree().double()
    expected = degree.log1p()
    expected = (expected - expected.mean()) / expected.std(correction=0)
    assert torch.allclose(model.score(torch.tensor([7]))[0].double(), expected, atol=1e-5)
    for part in model.parts().values():
        with part:
            found = model.score(torch.tensor([7]))[0]
            assert torch.allclose(found.double(), expected, atol=1e-5)
    store = data['user', 'interacts', 'item']
    store.edge_index[:, store.val_mask] = torch.tensor([[7], [0]])  # known of, but not trained on
    assert torch.allclose(model.score(torch.tensor([7]))[0].double(), expected, atol=1e-5)


def test_where_every_user_is_known_the_embeddings_have_no_channel_for_others(demo_data):
    model = GenRec(demo_data, hidden_channels=8, interest={'weight': 0.0})
    assert model.newcomers is None and model.embed()[0].size(1) == 8


def test_weight_and_schedule_are_chosen_without_the_test_split(demo_data):
    changed = copy.deepcopy(demo_data)
    store = changed['user', 'interacts', 'item']
    store.edge_index[1, store.test_mask] = store.edge_index[1, store.test_mask].flip(0)
    found = []
    for data in (demo_data, changed):
        torch.manual_seed(0)
        model = GenRec(demo_data, hidden_channels=8)
        choice = model.choose(data)
        choice.pop('seconds')
        found.append((choice, model.refine(data), model.score(torch.arange(20))))
    assert found[0][:2] == found[1][:2] and torch.equal(found[0][2], found[1][2])
    assert found[0][0]['chosen_on_validation'] and 0 <= found[0][1]['interest_weight'] <= 1


def test_on_validation_the_mixture_is_at_least_as_good_as_its_parts(demo_data):
    result_model = GenRec(demo_data, hidden_channels=8)
    result = Trainer(epochs=3, lr=0.01, batch_size=512, progress=False, device='cpu').fit(
        result_model, demo_data
    )
    assert set(result.parts) == {'graph', 'interest'}
    for figures in result.parts.values():
        assert result.validation['recall@20'] >= figures['validation']['recall@20'] - 1e-9
    assert result.choice['schedule'] and result.choice['weights']


def test_what_was_chosen_is_part_of_the_state(demo_data):
    model = GenRec(demo_data, hidden_channels=8)
    model.choose(demo_data)
    model.refine(demo_data)
    other = GenRec(demo_data, hidden_channels=8)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    user = torch.arange(30)
    assert torch.equal(model.eval().score(user), other.eval().score(user))
    assert other.interest_weight == model.interest_weight


def test_redrawn_parameters_forget_what_was_chosen(demo_data):
    model = GenRec(demo_data, hidden_channels=8)
    before = model.interest_weight
    model.choose(demo_data)
    model.interest_weight = 0.9
    model.reset_parameters()
    assert not model.interest.is_fitted and model.interest_weight == before


def test_the_weight_of_the_interest_may_be_pinned(demo_data):
    model = GenRec(
        demo_data,
        hidden_channels=8,
        interest=InterestConfig(0.2, 4.0, 0.0, 0.5, 0.0, {'kernel': 1.0}),
    )
    choice = model.choose(demo_data)
    assert model.refine(demo_data) == {} and model.interest_weight == 0.2
    assert choice['schedule'] == {
        'ridge': 4.0,
        'ridge_power': 0.0,
        'row_weight': 0.5,
        'discount': 0.0,
    }
    assert choice['curve'] == [] and [
        name for name, value in choice['weights'].items() if value
    ] == ['kernel']
    with pytest.raises(ConfigError, match="interest.weight: got 'often', accepted"):
        GenRec(demo_data, interest={'weight': 'often'})


def test_generated_edges_are_new_and_reach_the_encoder():
    model = GenRec(toy_data(), **small_genrec())
    before = model.eval().views().content
    model.start_epoch(0)
    seen = set(map(tuple, model.graph.edge_index.t().tolist()))
    assert not seen & set(map(tuple, model.generator.edges.edge_index.t().tolist()))
    assert not torch.allclose(before, model.eval().views().content)


@pytest.mark.parametrize('denoiser', ['linear', 'transformer', 'tied'])
def test_state_round_trip_gives_the_same_scores(denoiser):
    model = train_steps(GenRec(toy_data(), **small_genrec(denoiser)))
    other = GenRec(toy_data(), **small_genrec(denoiser))
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(model.score(torch.arange(8)), other.eval().score(torch.arange(8)))


@pytest.mark.parametrize('variant', ['principled', 'released'])
def test_only_the_released_variant_has_batch_statistics_of_each_modality_by_itself(variant):
    encoder = (
        GenRec(toy_data(), hidden_channels=8, variant=variant, encoder={'dropout': 0.0})
        .train()
        .encoder
    )
    views = encoder.modality_views(encoder.encode_modalities())
    attention = encoder.attention
    alone = torch.stack(
        [
            torch.tanh(attention.norm(attention.key(view))) @ attention.query.weight[0]
            for view in views
        ]
    )
    assert torch.allclose(attention(views).weight, alone.softmax(dim=0), atol=1e-5) == (
        variant == 'released'
    )


def test_the_released_variant_evaluates_with_active_dropout():
    model = train_steps(
        GenRec(
            toy_data(), **small_genrec('transformer', variant='released', encoder={'dropout': 0.5})
        )
    )
    user = torch.arange(8)
    assert not torch.equal(model.score(user), model.score(user))
    assert (
        isinstance(model.generator, ReleasedGenerator)
        and not model.generator.training
        and model.encoder.training
    )


def test_trainer_owns_the_encoder_only():
    model = GenRec(toy_data(), **small_genrec('tied'))
    owned = {id(p) for p in model.trained_parameters()}
    assert owned == {id(p) for p in model.encoder.parameters()}
    assert not owned & {id(p) for p in model.generator.parameters()}


def test_gradients_in_double_precision():
    torch.manual_seed(0)
    model = GenRec(toy_data(), **small_genrec(encoder={'dropout': 0.0})).double()
    model.start_epoch(0)
    model.eval()
    names = [
        'encoder.user_embedding',
        'encoder.item_embedding',
        'encoder.view_logits',
        'encoder.rho',
        'encoder.attention.key.weight',
        'encoder.gates.image.linear.weight',
        'encoder.encoders.text.input.linear.weight',
    ]
    state = dict(model.named_parameters())

    def loss(*values):
        return loss_of(model, names, values)

    assert torch.autograd.gradcheck(
        loss, tuple(state[n].detach().clone().requires_grad_() for n in names), atol=1e-6
    )


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(variant='paper'), 'variant: got'),
        (dict(denoiser={'name': 'unet'}), "denoiser.name: got 'unet'"),
        (dict(interest={'weight': 1.5}), 'interest.weight: got 1.5'),
        (generation(rebuild_k=9), 'generation.rebuild_k: got 9'),
        (training(objective='mse'), "denoiser_training.objective: got 'mse'"),
        (dict(encoder={'merge': 'max'}), 'encoder.merge: got'),
        (dict(debias={'clusters': 'all'}), "clusters: got 'all'"),
        (dict(diffusion={'process': 'noise'}), 'diffusion.process: got'),
        (dict(ranking={'loss': 'hinge'}), 'ranking.loss: got'),
        (dict(contrast={'temperature': 0}), 'contrast.temperature: got 0'),
        (
            dict(debias={'cluster': 3}),
            'debias.cluster: no such setting, accepted are enabled, clusters',
        ),
        (dict(clusters=3), 'clusters: no such setting; it is debias.clusters now'),
        (
            dict(contrast=False),
            'contrast: got False, .* it is contrast.view_weight and contrast.pair_weight now',
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        GenRec(toy_data(), **{'hidden_channels': 8, **arguments})


def test_registry_names_what_it_has():
    assert get_model('GenRec') is GenRec
    with pytest.raises(ConfigError, match="model: got 'LightFM', accepted are GenRec"):
        get_model('LightFM')


@pytest.mark.parametrize(
    'name, value, others',
    [
        ('interest.ridge', 4.0, {'denoiser.name': 'tied'}),
        ('interest.view_weights', {'kernel': 1.0}, {'generation.enabled': False}),
        ('ranking.num_negatives', 8, {'ranking.loss': 'bpr'}),
        ('interest.ridge_power', 0.3, {'diffusion.process': 'gaussian'}),
        ('denoiser.modality_weight', 3.0, {}),
        ('diffusion.noise_scale', 2.0, {}),
    ],
)
def test_settings_of_the_interest_without_effect_are_refused(name, value, others):
    with pytest.raises(ConfigError, match=f'{name}: got .* with .*, accepted is'):
        GenRec(toy_data(), **nested({**others, name: value}))


def test_groups_are_data_classes_or_mappings():
    groups = dict(
        interest=InterestConfig(weight=0.25), denoiser=DenoiserConfig('tied', num_layers=1)
    )
    by_class = GenRec(toy_data(), **groups)
    by_mapping = GenRec(
        toy_data(), interest={'weight': 0.25}, denoiser={'name': 'tied', 'num_layers': 1}
    )
    assert by_class.interest_weight == by_mapping.interest_weight == 0.25
    assert [p.shape for p in by_class.parameters()] == [p.shape for p in by_mapping.parameters()]


def test_the_linear_denoiser_is_not_solved_where_its_solution_is_given(demo_data, monkeypatch):
    solved = []
    plain = LinearDenoiser._solve
    monkeypatch.setattr(LinearDenoiser, '_solve', lambda self: (solved.append(self), plain(self)))
    model = GenRec(demo_data, hidden_channels=8)
    model.choose(demo_data)
    model.start_epoch(0)
    assert not solved and model.generator.denoiser.query_weight.any()
    other = GenRec(demo_data, hidden_channels=8)
    other.start_epoch(0)
    assert solved == [other.generator.denoiser]
