"""What every model over histories must do."""

import copy

import pytest
import torch
from helpers.sequence_graphs import cyclic_data, sequence_data
from torch_geometric.data import HeteroData

from genrec_pyg.config import resolve_config
from genrec_pyg.evaluation import Evaluator, evaluate
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import INTERACTS, known_masks
from genrec_pyg.loader import Sequences
from genrec_pyg.nn.models import MODELS, get_model
from genrec_pyg.training import Trainer
from genrec_pyg.transforms import LeaveOneOut, MapTypes, UserSplit

NAMES = [name for name, entry in MODELS.items() if entry.needs_time]
MULTI = ['MIND', 'ComiRecSA', 'REMI']
SINGLE = [name for name in NAMES if name not in MULTI]


def make(name, data=None, **arguments):
    torch.manual_seed(0)
    settings = {
        'hidden_channels': 8,
        'history_length': 5,
        'num_negatives': 6 if name in MULTI else 2,
        **arguments,
    }
    return get_model(name)(sequence_data() if data is None else data, **settings)


def train(model, epochs=3, sampler='edge'):
    """A few steps; returns the model in evaluation mode and the losses it saw."""
    optimizer = torch.optim.Adam(model.trained_parameters(), lr=1e-2)
    torch.manual_seed(3)
    model.train()
    losses = []
    for epoch in range(epochs):
        model.start_epoch(epoch)
        for batch in model.make_loader(4, sampler):
            optimizer.zero_grad()
            loss = sum(model.loss(batch).values())
            loss.backward()
            losses.append(float(loss.detach()))
            optimizer.step()
    return model.eval(), losses


def trainer(**arguments):
    settings = {
        'epochs': 3,
        'lr': 0.01,
        'batch_size': 4,
        'ks': (2, 5),
        'monitor': 'recall@5',
        'device': 'cpu',
        'progress': False,
        'patience': 0,
    }
    return Trainer(**{**settings, **arguments})


@pytest.mark.parametrize('name', NAMES)
def test_scores_are_finite_and_repeat(name):
    model, _ = train(make(name))
    user = torch.arange(5)
    score = model.score(user)
    assert (
        score.shape == (5, 11)
        and bool(torch.isfinite(score).all())
        and torch.equal(score, model.score(user))
    )
    assert not bool(score[4].any())  # no history
    with model.cached_embeddings():
        assert torch.equal(score, model.score(user))
    users, items = model.embed()
    assert users.shape == ((5, 4, 8) if name in MULTI else (5, 8)) and items.shape == (11, 8)
    expected = (users.view(5, -1, 8) @ items.t()).amax(dim=1)
    assert torch.allclose(score, expected, atol=1e-6)


@pytest.mark.parametrize('sampler', ['edge', 'user'])
@pytest.mark.parametrize('name', NAMES)
def test_held_out_items_move_no_number_of_the_training(name, sampler):
    first, losses = train(make(name), sampler=sampler)
    second, others = train(make(name, sequence_data(((7, 6), (8, 0), (10, 9)))), sampler=sampler)
    assert losses == others
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first.embed(), second.embed()))


@pytest.mark.parametrize('name', NAMES)
def test_the_validation_item_is_known_at_test_and_nothing_of_it_stays(name):
    data = sequence_data()
    model, _ = train(make(name))
    training, before = model.sequences, model.embed()[0]
    with model.known_edges(data, known_masks(data, 'val')):
        assert torch.equal(model.embed()[0], before)
    with pytest.raises(RuntimeError), model.known_edges(data, known_masks(data, 'test')):
        assert model.sequences.item.tolist() == [
            0,
            1,
            2,
            3,
            4,
            5,
            6,
            3,
            4,
            5,
            6,
            1,
            8,
            7,
            6,
            5,
            2,
            3,
            9,
        ]
        known = model.embed()[0]
        assert not any(torch.equal(known[user], before[user]) for user in range(3))
        assert torch.equal(known[3:], before[3:])
        raise RuntimeError
    assert model.sequences is training and torch.equal(model.embed()[0], before)

    seen = []
    encode = model.encode_users
    model.encode_users = lambda history, length: seen.append(history) or encode(history, length)
    for split, last in (('val', [5, 6, 2]), ('test', [6, 1, 3])):
        seen.clear()
        evaluate(model, data, split, (5,))
        histories = {tuple(row[row < 11].tolist()) for block in seen for row in block}
        assert {items[-1] for items in histories if len(items) > 1} == set(last)


@pytest.mark.parametrize('name', NAMES)
def test_the_published_protocol_knows_training_items_only(name):
    data = sequence_data()
    model, _ = train(make(name))
    evaluator = Evaluator(data, 'test', (3,), 'published')
    scores = evaluator.top_k(model)[0]
    with model.cached_embeddings():
        assert torch.equal(
            scores, model.top_k(evaluator.user, 3, *evaluator.known.select_rows(evaluator.user))[0]
        )


@pytest.mark.parametrize('name', NAMES)
def test_padding_other_users_and_order_of_users_change_no_embedding(name):
    model, _ = train(make(name))
    lists = [[3, 1], [0, 1, 2, 3, 4, 5, 6, 7], [], [9, 10, 8]]

    def embed(lists):
        rows = [(user, item) for user, items in enumerate(lists) for item in items]
        return model.embed_histories(Sequences.from_edges(torch.tensor(rows).t(), len(lists), 11))

    whole = embed(lists)
    assert torch.allclose(embed(lists[::-1]).flip(0), whole, atol=1e-6)
    for user in (0, 1, 3):
        assert torch.allclose(embed([lists[user]])[0], whole[user], atol=1e-6)
    # the five newest items are read
    assert torch.allclose(embed([lists[1][3:]])[0], whole[1], atol=1e-6)
    assert not torch.allclose(embed([lists[3][::-1]])[0], whole[3], atol=1e-4)  # order counts
    assert not bool(whole[2].any())


@pytest.mark.parametrize('name', NAMES)
def test_every_parameter_is_learned(name):
    model = make(name).train()
    for batch in model.make_loader(4, 'edge'):
        sum(model.loss(batch).values()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), key


@pytest.mark.parametrize('name', NAMES)
def test_gradients_in_double_precision(name):
    model = make(name).double().train()
    if hasattr(model, 'encoder'):
        model.eval()
    batch = next(iter(model.make_loader(20, 'edge')))
    names, values = zip(
        *((n, p.detach().clone().requires_grad_()) for n, p in model.named_parameters())
    )

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            return sum(self.model.loss(batch).values())

    def loss(*parameters):
        torch.manual_seed(7)
        return torch.func.functional_call(
            Loss(), {f'model.{n}': v for n, v in zip(names, parameters)}, ()
        )

    assert loss(*values).dtype == torch.float64
    # the first rounds of its routing are constants for the gradient, not for differences
    if name != 'MIND':
        assert torch.autograd.gradcheck(loss, values, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize('name', NAMES)
def test_state_round_trip_and_reset(name):
    model, _ = train(make(name))
    other = make(name)
    torch.manual_seed(9)
    other.reset_parameters()
    assert other.is_untrained() and not model.is_untrained()
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(model.score(torch.arange(5)), other.eval().score(torch.arange(5)))


@pytest.mark.parametrize('name', NAMES)
def test_drawing_anew_starts_as_the_constructor_does(name):
    model = make(name, hidden_channels=64)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    torch.manual_seed(5)
    model.reset_parameters()
    for key, value in ((key, parameter.detach()) for key, parameter in model.named_parameters()):
        if value.numel() < 100:
            assert bool((before[key] == before[key].view(-1)[0]).all()) == bool(
                (value == value.view(-1)[0]).all()
            ), key
        else:
            assert float(value.std()) == pytest.approx(
                float(before[key].std()), rel=0.3, abs=1e-9
            ), key


@pytest.mark.parametrize('sampler', ['edge', 'user'])
@pytest.mark.parametrize('name', NAMES)
def test_a_resumed_run_gives_the_same_numbers(name, sampler, tmp_path):
    data = sequence_data()
    whole, stopped, resumed = make(name), make(name), make(name)
    expected = trainer(epochs=4, sampler=sampler, output=tmp_path / 'whole').fit(whole, data)
    trainer(epochs=2, sampler=sampler, output=tmp_path / 'parts').fit(stopped, data)
    found = trainer(epochs=4, sampler=sampler, output=tmp_path / 'parts').fit(
        resumed, data, resume=True
    )
    assert found.test == expected.test and found.epoch == expected.epoch
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))
    other = sequence_data()
    other[INTERACTS].time = other[INTERACTS].time.flip(0)  # the same pairs in another order
    with pytest.raises(Exception, match='another training graph'):
        trainer(output=tmp_path / 'parts').fit(make(name, other), other, resume=True)


@pytest.mark.parametrize('name', NAMES)
def test_steps_of_an_epoch_and_mirror_gradient(name):
    data = sequence_data()
    result = trainer(epochs=2, steps_per_epoch=2, sampler='user', mirror_gradient=True).fit(
        make(name), data
    )
    assert len(result.history) == 2
    with pytest.raises(ConfigError, match='steps_per_epoch: got 2 for MFBPR'):
        trainer(steps_per_epoch=2, batch_size=3).fit(get_model('MFBPR')(data), data)
    with pytest.raises(ConfigError, match='steps_per_epoch: got 0'):
        trainer(steps_per_epoch=0)


@pytest.mark.parametrize('name', NAMES)
def test_what_comes_next_is_learned(name):
    """Popularity knows nothing of these data; the next item after two is certain."""
    data = LeaveOneOut()(cyclic_data())
    arguments = {'hidden_channels': 32, 'history_length': 6}
    torch.manual_seed(0)
    if name in SINGLE:
        arguments['loss'] = 'softmax'
    model = get_model(name)(data, **arguments)
    found = trainer(epochs=40, batch_size=64, eval_every=10).fit(model, data).test['recall@5']
    popular = evaluate(get_model('Popularity')(data), data, 'test', (5,))['recall@5']
    assert popular < 0.45 and found > (0.9 if name in SINGLE else popular + 0.15)


@pytest.mark.parametrize('name', NAMES)
def test_users_outside_the_training_are_ranked_by_their_histories(name):
    data = UserSplit(0.2, 0.2, seed=1)(cyclic_data())
    model = get_model(name)(data, hidden_channels=32, history_length=6)
    figures = {split: evaluate(model, data, split, (5,)) for split in ('val', 'test')}
    assert all(value['num_users'] == 12 for value in figures.values())
    users = data[INTERACTS].edge_index[0, data[INTERACTS].test_mask].unique()
    assert not bool(model.embed()[0][users].any())
    with model.known_edges(data, known_masks(data, 'test')):
        assert bool(model.embed()[0][users].flatten(1).any(dim=1).all())


@pytest.mark.parametrize('name', NAMES)
def test_missing_time_is_refused_and_renamed_types_are_not(name):
    data = sequence_data()
    renamed = HeteroData()
    renamed['customer'].num_nodes, renamed['product'].num_nodes = 5, 11
    renamed['customer', 'buys', 'product'].update(data[INTERACTS])
    mapped = MapTypes(user='customer', item='product')(renamed)
    assert train(make(name, mapped))[1] == train(make(name))[1]
    del data[INTERACTS].time
    with pytest.raises(DataError, match="has no 'time', from which sequences are made"):
        make(name, data)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('dataset', ['demo', 'ml-100k', 'ml1m', 'video_games'])
def test_shipped_settings_build_the_model(name, dataset):
    config = resolve_config(name, dataset)
    Trainer(**config.trainer)
    get_model(name)(sequence_data(), **config.hparams)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(
    'arguments', [dict(hidden_channels=0), dict(history_length=0), dict(num_negatives=0)]
)
def test_bad_arguments_are_named(name, arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        make(name, **arguments)


@pytest.mark.parametrize('name', NAMES)
def test_repr_names_sizes(name):
    assert repr(make(name)).startswith(f'{name}(users=5, items=11')
