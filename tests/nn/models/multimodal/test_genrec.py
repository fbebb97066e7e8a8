import copy
import re

import pytest
import torch
from helpers.toy_graphs import loss_of, toy_data, train_steps

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import Triples
from genrec_pyg.nn.models import GenRec, get_model
from genrec_pyg.nn.models.multimodal.genrec import unit_scores
from genrec_pyg.ops import unit_rows
from genrec_pyg.training import Trainer

#: Small and quick settings for every denoiser.
SMALL = dict(hidden_channels=8, denoiser_layers=1, denoiser_rank=6, clusters=2, gen_topk=3, rebuild_k=2)


#: Triples of which no node is the positive twice.
BATCH = Triples(torch.tensor([0, 1, 4, 6]), torch.tensor([0, 2, 2, 5]), torch.tensor([3, 4, 5, 6]))


@pytest.mark.parametrize('denoiser', ['linear', 'transformer', 'tied'])
@pytest.mark.parametrize('num_modalities', [0, 1, 2, 3])
def test_trains_with_every_denoiser_and_number_of_modalities(denoiser, num_modalities):
    model = train_steps(GenRec(toy_data(num_modalities), denoiser=denoiser, **SMALL))
    score = model.score(torch.arange(8))
    assert score.shape == (8, 7) and bool(torch.isfinite(score).all())
    assert torch.equal(score, model.score(torch.arange(8)))
    with model.cached_embeddings():
        assert torch.equal(score, model.score(torch.arange(8)))


@pytest.mark.parametrize('arguments', [
    dict(generation=False), dict(debias=False), dict(contrast=False), dict(denoiser='transformer', denoiser_layers=0),
    dict(modalities=['text']), dict(interest_weight=0.0), dict(interest_weight=1.0), dict(rebuild_k=0),
    dict(side_in_score=False), dict(clusters='spectral'), dict(clusters='eigengap'), dict(clusters='auto'),
    dict(merge='sum'), dict(start='diffused'), dict(final='sample', candidates='all', edge_weight='binary', keep=0.5),
    dict(objective='focal', denoiser='tied', variational_weight=0.1), dict(svt=0.2), dict(variant='released'),
    dict(variant='released', debias=True), dict(clusters={'image': 2, 'text': 3})])
def test_every_switch_trains(arguments):
    model = train_steps(GenRec(toy_data(), **{**SMALL, **arguments}))
    assert bool(torch.isfinite(model.score(torch.arange(8))).all())


@pytest.mark.parametrize('arguments', [
    dict(denoiser='linear'), dict(denoiser='perceptron', start='diffused'), dict(denoiser='tied', variational_weight=0.1),
    dict(denoiser='transformer', objective='squared', start='clean')])
def test_gaussian_noise_takes_the_place_of_the_flips(arguments):
    model = train_steps(GenRec(toy_data(), process='gaussian', **{**SMALL, **arguments}))
    assert not model.generator.process.binary
    assert bool(torch.isfinite(model.score(torch.arange(8))).all())


RELEASED, PRINCIPLED, LINEAR = dict(variant='released'), dict(variant='principled'), dict(denoiser='linear')
WITHOUT = dict(generation=False)


@pytest.mark.parametrize('by, option, accepted', [
    (RELEASED, dict(process='gaussian'), 'flip'), (RELEASED, dict(denoiser='tied'), 'transformer'),
    (RELEASED, dict(final='other'), 'sample'), (RELEASED, dict(candidates='some'), 'all'),
    (RELEASED, dict(edge_weight='other'), 'binary'), (RELEASED, dict(start='clean'), 'diffused'),
    (RELEASED, dict(interest_weight=0.5), 0.0), (RELEASED, dict(objective='bce'), 'focal'),
    (RELEASED, dict(variational_weight=0.1), 0.0), (RELEASED, dict(modality_contrast=0.1), 0.0),
    (RELEASED, dict(denoiser_negatives=3), 0), (PRINCIPLED, dict(flip_temp=2.0), 1.0),
    (WITHOUT, dict(interest_weight=0.5), 0.0), (WITHOUT, dict(debias=True), False),
    (WITHOUT, dict(process='gaussian'), 'flip'), (LINEAR, dict(objective='bce'), 'squared'),
    (LINEAR, dict(variational_weight=0.1), 0.0), (LINEAR, dict(denoiser_negatives=3), 0)])
def test_an_option_without_effect_is_refused(by, option, accepted):
    (name, value), = option.items()
    (key, cause), = by.items()
    message = f'{name}: got {value!r} with {key}={cause!r}, accepted is {accepted!r}'
    with pytest.raises(ConfigError, match=re.escape(message)):
        GenRec(toy_data(), **{**SMALL, **by, **option})
    GenRec(toy_data(), **{**SMALL, **by, name: accepted})


def test_the_released_variant_has_the_specific_part_of_audio_alone():
    released = dict(variant='released', **SMALL)
    with pytest.raises(ConfigError, match=r"specific: got \['text'\] with variant='released', accepted is \['audio'\]"):
        GenRec(toy_data(3), specific=['text'], **released)
    for specific in (None, ['audio']):
        assert GenRec(toy_data(3), specific=specific, **released).encoder.specific == [2]
    assert GenRec(toy_data(2), specific=['text'], **released).encoder.specific == [1]


def test_loss_terms():
    model = GenRec(toy_data(), **SMALL)
    assert set(model.loss(BATCH)) == {'softmax', 'l2', 'contrast_views', 'contrast_pairs'}
    assert set(GenRec(toy_data(), contrast=False, ranking='bpr', **SMALL).loss(BATCH)) == {'bpr', 'l2'}
    assert set(GenRec(toy_data(), modalities=[], **SMALL).loss(BATCH)) == {'softmax', 'l2'}
    model.l2 = 2.0
    tables = model.encoder.user_embedding, model.encoder.item_embedding
    assert float(model.loss(BATCH)['l2']) == pytest.approx(2 * float(sum(x.square().sum() for x in tables)), rel=1e-5)


def test_a_loss_in_parts_is_the_loss_of_the_whole_batch():
    model = GenRec(toy_data(), contrast_rows=2, dropout=0.0, **SMALL).double().train()
    model.start_epoch(0)
    whole = model.loss(BATCH)
    sum(whole.values()).backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    model.loss_rows = 2
    parts = model.loss(BATCH)
    sum(parts.values()).backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert expected.keys() == found.keys() and parts.keys() == whole.keys()
    for name, value in whole.items():
        assert float(parts[name]) == pytest.approx(float(value), rel=1e-10)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


def test_held_out_edges_change_no_embedding():
    torch.manual_seed(0)
    first = train_steps(GenRec(toy_data(), **SMALL)).embed()
    torch.manual_seed(0)
    second = train_steps(GenRec(toy_data(held_out=torch.tensor([[7, 3, 5], [6, 0, 1]])), **SMALL)).embed()
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_without_generation_nothing_is_generated():
    model = GenRec(toy_data(), generation=False, **SMALL)
    assert model.generator is None and model.start_epoch(0) == {}
    users, items = model.embed()
    assert users.size(1) == items.size(1) == 8


def test_score_mixes_parts_of_unit_deviation():
    torch.manual_seed(0)
    model = train_steps(GenRec(toy_data(), interest_weight=0.3, **SMALL))
    model.choose(toy_data())
    users, items = model.views().embedding.split([8, 7])
    content = users @ unit_rows(items).t()
    content = content / content.std(dim=1, correction=0, keepdim=True)
    user = torch.arange(8)
    assert torch.allclose(model.score(user), 0.7 * content + 0.3 * model.interest.score(user), atol=1e-4)
    with model.parts()['graph']:
        assert torch.allclose(model.score(user), content, atol=1e-4)
    with model.parts()['interest']:
        assert torch.allclose(model.score(user), model.interest.score(user), atol=1e-5)
    assert model.interest_weight == 0.3


def test_a_trained_denoiser_gives_the_interest():
    torch.manual_seed(0)
    model = train_steps(GenRec(toy_data(), interest_weight=0.3, denoiser='tied', ranking='bpr', **SMALL))
    users, items = model.views().embedding.split([8, 7])
    query, keys = model.generator.predict(model.item_views())
    parts = [x / x.std(dim=1, correction=0, keepdim=True) for x in (users @ items.t(), query @ keys.t())]
    assert torch.allclose(model.score(torch.arange(8)), 0.7 * parts[0] + 0.3 * parts[1], atol=1e-3)


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
    result = Trainer(epochs=3, lr=0.01, batch_size=512, progress=False, device='cpu').fit(result_model, demo_data)
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


def test_the_weight_of_the_interest_may_be_pinned(demo_data):
    model = GenRec(demo_data, hidden_channels=8, interest_weight=0.2, ridge=4.0, ridge_power=0.0, row_weight=0.5, discount=0.0,
                   view_weights={'kernel': 1.0})
    choice = model.choose(demo_data)
    assert model.refine(demo_data) == {} and model.interest_weight == 0.2
    assert choice['schedule'] == {'ridge': 4.0, 'ridge_power': 0.0, 'row_weight': 0.5, 'discount': 0.0}
    assert choice['curve'] == [] and [name for name, value in choice['weights'].items() if value] == ['kernel']
    with pytest.raises(ConfigError, match="interest_weight: got 'often', accepted"):
        GenRec(demo_data, interest_weight='often')


def test_unit_scores_of_constant_or_zero_queries():
    keys = torch.randn(20, 3)
    out = unit_scores(torch.tensor([[0.0, 0, 0], [1.0, 2, 3]]), keys)
    assert not out[0].any()
    assert float((out[1] @ keys.t()).std(correction=0)) == pytest.approx(1.0, abs=1e-5)


def test_generated_edges_are_new_and_reach_the_encoder():
    model = GenRec(toy_data(), **SMALL)
    before = model.eval().views().content
    model.start_epoch(0)
    seen = set(map(tuple, model.graph.edge_index.t().tolist()))
    assert not seen & set(map(tuple, model.generator.edges.edge_index.t().tolist()))
    assert not torch.allclose(before, model.eval().views().content)


@pytest.mark.parametrize('denoiser', ['linear', 'transformer', 'tied'])
def test_state_round_trip_gives_the_same_scores(denoiser):
    model = train_steps(GenRec(toy_data(), denoiser=denoiser, **SMALL))
    other = GenRec(toy_data(), denoiser=denoiser, **SMALL)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(model.score(torch.arange(8)), other.eval().score(torch.arange(8)))


@pytest.mark.parametrize('variant', ['principled', 'released'])
def test_only_the_released_variant_has_batch_statistics_of_each_modality_by_itself(variant):
    encoder = GenRec(toy_data(), variant=variant, dropout=0.0, **SMALL).train().encoder
    views = encoder.modality_views(encoder.encode_modalities())
    attention = encoder.attention
    alone = torch.stack([torch.tanh(attention.norm(attention.key(view))) @ attention.query.weight[0] for view in views])
    assert torch.allclose(attention(views).weight, alone.softmax(dim=0), atol=1e-5) == (variant == 'released')


def test_the_released_variant_evaluates_with_active_dropout():
    model = train_steps(GenRec(toy_data(), variant='released', dropout=0.5, **SMALL))
    user = torch.arange(8)
    assert not torch.equal(model.score(user), model.score(user))
    assert model.generator.drop == 'entries' and not model.generator.training and model.encoder.training


def test_trainer_owns_the_encoder_only():
    model = GenRec(toy_data(), denoiser='tied', **SMALL)
    owned = {id(p) for p in model.trained_parameters()}
    assert owned == {id(p) for p in model.encoder.parameters()}
    assert not owned & {id(p) for p in model.generator.parameters()}


def test_gradients_in_double_precision():
    torch.manual_seed(0)
    model = GenRec(toy_data(), dropout=0.0, **SMALL).double()
    model.start_epoch(0)
    model.eval()
    names = ['encoder.user_embedding', 'encoder.item_embedding', 'encoder.view_logits', 'encoder.rho',
             'encoder.attention.key.weight', 'encoder.gates.image.linear.weight', 'encoder.encoders.text.input.linear.weight']
    state = dict(model.named_parameters())

    def loss(*values):
        return loss_of(model, names, values)

    assert torch.autograd.gradcheck(loss, tuple(state[n].detach().clone().requires_grad_() for n in names), atol=1e-6)


@pytest.mark.parametrize('arguments', [dict(variant='paper'), dict(denoiser='unet'), dict(interest_weight=1.5),
                                       dict(rebuild_k=9), dict(objective='mse'), dict(merge='max'), dict(clusters='all'),
                                       dict(process='noise')])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        GenRec(toy_data(), **{**SMALL, **arguments})


def test_registry_names_what_it_has():
    assert get_model('GenRec') is GenRec
    with pytest.raises(ConfigError, match="model: got 'LightFM', accepted are GenRec"):
        get_model('LightFM')


@pytest.mark.parametrize('arguments', [
    dict(denoiser='tied', ridge=4.0), dict(generation=False, view_weights={'kernel': 1.0}),
    dict(ranking='bpr', num_negatives=8),
    dict(process='gaussian', ridge_power=0.3), dict(modality_weight=3.0), dict(noise_scale=2.0)])
def test_settings_of_the_interest_without_effect_are_refused(arguments):
    with pytest.raises(ConfigError, match=f'{list(arguments)[-1]}: got .* with .*, accepted is'):
        GenRec(toy_data(), **{**SMALL, **arguments})
