"""What every trained model must do; one set of tests over the registry."""

import copy
from functools import cache

import pytest
import torch
from helpers.toy_graphs import BATCH, loss_of, toy_data, train_steps
from torch_geometric.data import HeteroData

from genrec_pyg.config import resolve_config
from genrec_pyg.evaluation import evaluate
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import MODELS, get_model
from genrec_pyg.training import Trainer
from genrec_pyg.transforms import DropModality, MapTypes

#: Trained models but GenRec and those over histories, which have tests of their own.
NAMES = [
    name
    for name, entry in MODELS.items()
    if entry.trained and name != 'GenRec' and entry.family != 'sequential'
]
#: Small settings.
SMALL: dict[str, dict] = {
    'CLCRec': dict(num_negatives=4),
    'DiffMM': dict(denoiser={'channels': 12}, generation={'rebuild_k': 2}, contrast_weight=0.1),
    'GRCN': dict(content_channels=4),
    # a detached side has no gradient to compare with differences
    'HCCF': dict(num_hyperedges=6, detach=False),
    # A row of which dropout leaves a membership below 1e-12 is divided by its norm, but passes no
    # gradient.
    'LGMRec': dict(temperature=1.0),
    'MVGAE': dict(latent_channels=12),
    'NCL': dict(warmup=1, num_clusters=3, contrast_weight=0.1, prototype_weight=0.1),
}
#: Settings of training on the demo data, and by how much validation Recall@20 must pass popularity.
DEMO: dict[str, dict] = {
    'NCL': dict(hparams=dict(warmup=4)),
    'BM3': dict(hparams=dict(l2=0.01), trainer=dict(epochs=60)),
    'MVGAE': dict(trainer=dict(epochs=30)),
    'SELFCFED': dict(trainer=dict(epochs=36)),
    'SGL': dict(trainer=dict(epochs=24)),
}
MARGIN = 0.1


def make(name, data=None, **arguments):
    torch.manual_seed(0)
    settings = {'hidden_channels': 8, **SMALL.get(name, {}), **arguments}
    return get_model(name)(toy_data() if data is None else data, **settings)


@pytest.mark.parametrize('num_modalities', [0, 1, 2, 3])
@pytest.mark.parametrize('name', NAMES)
def test_trains_with_any_number_of_modalities(name, num_modalities):
    if MODELS[name].needs_modality and num_modalities == 0:
        with pytest.raises(ConfigError, match='modalities: got none, accepted'):
            make(name, toy_data(0))
        return
    model = train_steps(make(name, toy_data(num_modalities)))
    score = model.score(torch.arange(8))
    assert score.shape == (8, 7) and bool(torch.isfinite(score).all())
    assert torch.equal(score, model.score(torch.arange(8)))
    with model.cached_embeddings():
        assert torch.equal(score, model.score(torch.arange(8)))


@pytest.mark.parametrize('name', NAMES)
def test_items_without_a_modality_and_nodes_without_edges_are_finite(name):
    model = train_steps(make(name, toy_data(2, partial=True)))
    assert all(bool(torch.isfinite(x).all()) for x in model.embed())
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


@pytest.mark.parametrize('name', NAMES)
def test_held_out_edges_change_no_embedding(name):
    first = train_steps(make(name)).embed()
    second = train_steps(
        make(name, toy_data(held_out=torch.tensor([[7, 3, 5], [6, 0, 1]])))
    ).embed()
    assert all(torch.equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize('name', NAMES)
def test_state_round_trip_gives_the_same_scores(name):
    model = train_steps(make(name))
    other = make(name)
    other.reset_parameters()
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(model.score(torch.arange(8)), other.eval().score(torch.arange(8)))


@pytest.mark.parametrize('name', NAMES)
def test_renumbered_nodes_have_the_same_scores(name):
    torch.manual_seed(1)
    order = {8: torch.randperm(8), 7: torch.randperm(7)}  # old number of every new one
    data, renumbered = toy_data(), toy_data()
    for edge_type, sizes in (
        (('user', 'interacts', 'item'), (8, 7)),
        (('item', 'has', 'image'), (7,)),
        (('item', 'has', 'text'), (7,)),
    ):
        edge_index = renumbered[edge_type].edge_index
        for row, size in enumerate(sizes):
            edge_index[row] = order[size].argsort()[edge_index[row]]
    model, other = (
        make(name, graph, hidden_channels=4).double().eval() for graph in (data, renumbered)
    )
    other.load_state_dict(
        {
            key: value[order[len(value)]]
            if torch.is_tensor(value) and value.dim() > 0 and len(value) in order
            else value
            for key, value in model.state_dict().items()
        }
    )
    assert torch.allclose(
        other.score(torch.arange(8)), model.score(order[8])[:, order[7]], atol=1e-6
    )


@pytest.mark.parametrize('name', NAMES)
def test_every_parameter_is_learned(name):
    model = make(name).train()
    for epoch in range(2):
        model.start_epoch(epoch)
    sum(model.loss(BATCH).values()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.trained_parameters())


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('dataset', ['demo', 'tiktok', 'baby'])
def test_shipped_settings_build_the_model(name, dataset):
    config = resolve_config(name, dataset)
    Trainer(**config.trainer)
    get_model(name)(toy_data(3), **config.hparams)


class FixedTargets:
    """Targets without gradient stay what they were in the first loss, for differences see through a
    stop of the gradient.
    """

    def __init__(self, model):
        self.seen, self.next = [], 0
        if hasattr(model, 'predictor'):
            self.draw, model.predictor.target = model.predictor.target, self
        if hasattr(model, 'feedback_weights'):
            self.draw, model.feedback_weights = model.feedback_weights, self

    def rewind(self):
        self.next = 0

    def __call__(self, *x):
        if self.next == len(self.seen):
            self.seen.append(self.draw(*x))
        self.next += 1
        return self.seen[self.next - 1]


@pytest.mark.parametrize('name', NAMES)
def test_gradients_in_double_precision(name):
    model = make(name).double().train()
    for epoch in range(3):
        model.start_epoch(epoch)
    targets = FixedTargets(model)
    names, values = zip(
        *((n, p.detach().clone().requires_grad_()) for n, p in model.named_parameters())
    )

    def loss(*parameters):
        torch.manual_seed(7)  # the same masks for every difference
        targets.rewind()
        return loss_of(model, names, parameters)

    assert loss(*values).dtype == torch.float64
    assert torch.autograd.gradcheck(loss, values, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize('name', NAMES)
def test_reset_and_seed_repeat_the_numbers(name):
    model, other = make(name), make(name)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters()))
    torch.manual_seed(3)
    model.reset_parameters()
    torch.manual_seed(3)
    train_steps(other)
    torch.manual_seed(3)
    other.reset_parameters()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters()))


@pytest.mark.parametrize('name', NAMES)
def test_a_resumed_run_gives_the_same_numbers(name, tmp_path):
    def fit(model, folder, epochs, resume=False):
        trainer = Trainer(
            epochs=epochs,
            lr=0.01,
            batch_size=4,
            patience=0,
            ks=(2, 5),
            monitor='recall@5',
            device='cpu',
            progress=False,
            output=tmp_path / folder,
        )
        return trainer.fit(model, toy_data(), resume=resume)

    whole, stopped, resumed = make(name), make(name), make(name)
    expected = fit(whole, 'whole', 4)
    fit(stopped, 'parts', 2)
    resumed.reset_parameters()
    found = fit(resumed, 'parts', 4, resume=True)
    assert found.test == expected.test and found.epoch == expected.epoch
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))


@pytest.mark.parametrize('name', [*NAMES, 'GenRec'])
def test_the_seed_of_the_trainer_repeats_a_training(name):
    """Models of one process, made and fitted as the README does."""
    found = []
    for _ in range(3):
        settings = {'hidden_channels': 8, **SMALL.get(name, {})}
        model = get_model(name)(toy_data(), **settings)
        trainer = Trainer(
            epochs=2,
            lr=0.01,
            batch_size=4,
            ks=(2, 5),
            monitor='recall@5',
            device='cpu',
            progress=False,
        )
        found.append((trainer.fit(model, toy_data()).test, model.state_dict()))
    for figures, state in found[1:]:
        assert figures == found[0][0]
        assert all(
            torch.equal(state[key], value)
            for key, value in found[0][1].items()
            if torch.is_tensor(value)
        )


@pytest.mark.parametrize('name', [*NAMES, 'GenRec'])
def test_drawing_anew_starts_as_the_constructor_does(name):
    model = get_model(name)(toy_data(), hidden_channels=64)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    model.reset_parameters()
    for key, value in ((key, parameter.detach()) for key, parameter in model.named_parameters()):
        old = before[key]
        if old.numel() < 100:  # too few for a comparison of spreads
            assert bool((old == old.view(-1)[0]).all()) == bool(
                (value == value.view(-1)[0]).all()
            ), key
        else:
            assert float(value.std()) == pytest.approx(float(old.std()), rel=0.3, abs=1e-9), key
            assert float(value.mean()) == pytest.approx(
                float(old.mean()), abs=0.3 * float(old.std()) + 1e-9
            ), key


@pytest.mark.parametrize('name', [*NAMES, 'GenRec'])
def test_scores_after_a_training_are_those_of_its_evaluation(name, demo_data):
    model = get_model(name)(demo_data)
    Trainer(epochs=1, lr=0.01, device='cpu', progress=False).fit(model, demo_data)
    user = torch.arange(20)
    with torch.no_grad():
        first, second = model.score(user), model.score(user)
    with model.cached_embeddings():
        assert torch.equal(first, second) and torch.equal(first, model.score(user))
    assert not model.training and not any(module.training for module in model.modules())


@pytest.mark.parametrize('name', NAMES)
def test_renamed_types_change_no_embedding(name):
    data, renamed = toy_data(), HeteroData()
    names = {'user': 'customer', 'item': 'product', 'image': 'photo'}
    for node_type in data.node_types:
        renamed[names.get(node_type, node_type)].update(data[node_type])
    for source, relation, target in data.edge_types:
        kind = (
            names.get(source, source),
            {'interacts': 'buys'}.get(relation, relation),
            names.get(target, target),
        )
        renamed[kind].update(data[source, relation, target])
    mapped = MapTypes(user='customer', item='product', rel='buys')(renamed)
    first, second = train_steps(make(name)).embed(), train_steps(make(name, mapped)).embed()
    assert all(torch.equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize('links', [[[3, 0]], [[item, 0] for item in range(7)], [[3, 1]], []])
@pytest.mark.parametrize('alone', [True, False])
@pytest.mark.parametrize('name', [*NAMES, 'GenRec'])
def test_a_modality_may_have_one_node_or_none(name, alone, links):
    """One item has the node, all items share it, it is one of three, or there is none."""
    data = toy_data(0 if alone else 2)
    data['audio'].x = torch.randn(len(links) and max(node for _, node in links) * 2 + 1, 5)
    data['item', 'has', 'audio'].edge_index = (
        torch.tensor(links, dtype=torch.long).view(-1, 2).t().contiguous()
    )
    model = get_model(name)(data, hidden_channels=8, **SMALL.get(name, {}))
    train_steps(model)
    assert bool(torch.isfinite(model.score(torch.arange(8))).all())
    assert all(
        bool(torch.isfinite(value).all())
        for value in model.state_dict().values()
        if torch.is_tensor(value) and value.is_floating_point()
    )


def named_training(name, names, folder):
    """Scores of a training with these names of its two modalities, and its number of loss terms;
    the training is resumed too.
    """
    data, graph = toy_data(partial=True), toy_data(0)
    for old, new in zip(('image', 'text'), names):
        graph[new].x = data[old].x
        graph['item', 'has', new].edge_index = data['item', 'has', old].edge_index
    settings = {'hidden_channels': 8, **SMALL.get(name, {})}
    model = get_model(name)(graph, **settings)
    trainer = Trainer(
        epochs=2,
        lr=0.01,
        batch_size=4,
        ks=(5,),
        monitor='recall@5',
        device='cpu',
        progress=False,
        output=folder,
    )
    result = trainer.fit(model, graph)
    with torch.no_grad():
        found = model.score(torch.arange(8)), len(result.history[0]['loss'])
    torch.manual_seed(5)
    trainer.epochs = 3
    trainer.fit(get_model(name)(graph, **settings), graph, resume=True)
    return found


@pytest.fixture(scope='module')
def with_image_and_text(tmp_path_factory):
    """What :func:`named_training` finds with image and text, once per model."""
    return cache(
        lambda name: named_training(name, ('image', 'text'), tmp_path_factory.mktemp('named'))
    )


@pytest.mark.parametrize(
    'names', [('type', 'clip.v1'), ('training', 'keys'), ('users', 'items'), ('a b', 'c/#1')]
)
@pytest.mark.parametrize('name', [*NAMES, 'GenRec'])
def test_names_of_modalities_decide_nothing(name, names, tmp_path, with_image_and_text):
    """A training gives with any names what it gives with image and text, and can be resumed."""
    scores, terms = named_training(name, names, tmp_path)
    expected, expected_terms = with_image_and_text(name)
    assert torch.equal(scores, expected) and terms == expected_terms


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_beats_popularity_on_the_demo_data(name, demo_data):
    torch.manual_seed(0)
    model = get_model(name)(demo_data, **DEMO.get(name, {}).get('hparams', {}))
    settings = {
        'epochs': 12,
        'lr': 0.02,
        'batch_size': 512,
        **DEMO.get(name, {}).get('trainer', {}),
    }
    found = (
        Trainer(progress=False, eval_every=3, **settings)
        .fit(model, demo_data)
        .validation['recall@20']
    )
    popular = evaluate(get_model('Popularity')(demo_data), demo_data, 'val', (20,))['recall@20']
    assert found > popular + MARGIN


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('arguments', [dict(hidden_channels=0), dict(l2=-1.0)])
def test_bad_arguments_are_named(name, arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        get_model(name)(toy_data(), **arguments)


@pytest.mark.parametrize('name', NAMES)
def test_repr_names_sizes(name):
    assert repr(make(name)).startswith(f'{name}(users=8, items=7')


@pytest.fixture
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize('name', MODELS)
def test_every_model_trains_where_the_default_precision_is_float64(name, double_precision):
    data = toy_data()
    if MODELS[name].needs_time:
        data['user', 'interacts', 'item'].time = torch.arange(13)
    model = get_model(name)(data)
    result = Trainer(epochs=1, batch_size=4, progress=False, device='cpu').fit(model, data)
    score = model.score(torch.arange(8))
    assert result.test['num_users'] == 2 and bool(torch.isfinite(score).all())
    assert model.graph.modalities['image'].x.dtype == torch.float64


@pytest.mark.parametrize('name', sorted({*NAMES, 'GenRec'} - {'MFBPR', 'LightGCN'}))
def test_features_of_nodes_that_no_item_links_to_change_nothing(name):
    data = DropModality(0.4, ['image'], seed=1)(toy_data())
    other = copy.copy(data)
    linked = data['item', 'has', 'image'].edge_index[1]
    x = torch.full_like(data['image'].x, 100)
    x[linked] = data['image'].x[linked]
    other['image'].x = x
    scores = []
    for graph in (data, other):
        torch.manual_seed(0)
        model = get_model(name)(graph)
        model.reset_parameters()
        scores.append(train_steps(model).score(torch.arange(8)))
    assert torch.equal(*scores) and not torch.equal(data['image'].x, x)


@pytest.mark.parametrize('name', [*NAMES, 'GenRec'])
def test_mirrored_steps_train_every_model_and_repeat(name):
    """Both steps see one batch, so that a model must leave it as it is."""
    states = []
    for options in (
        dict(),
        dict(mirror_gradient=True, mg_interval=1),
        dict(mirror_gradient=True, mg_interval=1),
    ):
        model = get_model(name)(toy_data(), **{'hidden_channels': 8, **SMALL.get(name, {})})
        Trainer(
            epochs=2,
            lr=0.01,
            batch_size=4,
            ks=(5,),
            monitor='recall@5',
            device='cpu',
            progress=False,
            **options,
        ).fit(model, toy_data())
        states.append(torch.cat([parameter.detach().view(-1) for parameter in model.parameters()]))
    plain, mirrored, again = states
    assert torch.equal(mirrored, again) and bool(torch.isfinite(mirrored).all())
    assert not torch.allclose(plain, mirrored, atol=1e-5)


@pytest.mark.parametrize('name', [*NAMES, 'GenRec'])
def test_several_nodes_of_a_modality_stand_for_their_mean(name):
    """Item 0 has two images; where one of them is far off, the other is so on the opposite side.
    DiffMM and GenRec map nodes by more than a linear layer before they take the mean.
    """
    scores = []
    for shift in (0.0, 0.5):
        data = toy_data()
        x = data['image'].x
        data['image'].x = torch.cat([x[:1] - shift, x[1:], x[:1] + shift])
        links = torch.cat([torch.arange(7).expand(2, 7), torch.tensor([[0], [7]])], dim=1)
        data['item', 'has', 'image'].edge_index = links
        torch.manual_seed(0)
        model = get_model(name)(data, **{'hidden_channels': 8, **SMALL.get(name, {})})
        model.reset_parameters()
        scores.append(train_steps(model).score(torch.arange(8)))
    assert all(bool(torch.isfinite(score).all()) for score in scores)
    assert torch.allclose(*scores, atol=1e-3) or name in ('DiffMM', 'GenRec')
