import copy
import json
import math
import pickle

import pytest
import torch
from helpers.toy_graphs import small_genrec
from helpers.trainer_cases import QUIET, Factors, build, comparable, without

from genrec_pyg.evaluation import evaluate
from genrec_pyg.exceptions import ConfigError, DataError, GenRecError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models import GenRec, Popularity, get_model
from genrec_pyg.training import Trainer, load_checkpoint
from genrec_pyg.transforms import RandomSplit


def test_learns_and_reports_the_best_epoch(data, tmp_path):
    model = build('factors', data)
    before = evaluate(model, data)['recall@10']
    trainer = Trainer(
        epochs=30, lr=0.05, patience=5, ks=(5, 10), monitor='recall@10', output=tmp_path, **QUIET
    )
    result = trainer.fit(model, data)
    assert result.test['recall@10'] > before + 0.1
    best = max(result.history, key=lambda record: record['val']['recall@10'])
    assert (
        result.epoch == best['epoch'] and result.validation['recall@10'] == best['val']['recall@10']
    )
    assert evaluate(model, data, 'test', (5, 10)) == result.test
    assert len(result.history) <= result.epoch + 6 and result.stopped == 'patience'
    written = json.loads((tmp_path / 'metrics.json').read_text())
    assert written['test'] == result.test and written['selection'] == 'chosen on validation'
    lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert lines == result.history and {'loss', 'seconds', 'val', 'interactions_per_second'} <= set(
        lines[0]
    )
    assert (tmp_path / 'environment.json').exists()


def test_without_output_nothing_is_written_and_the_best_state_is_restored(
    data, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    model = build('factors', data)
    result = Trainer(epochs=6, lr=0.2, **QUIET).fit(model, data)
    assert evaluate(model, data, 'val')['recall@20'] == result.validation['recall@20']
    assert not list(tmp_path.iterdir())


def test_time_runs_out_after_an_evaluated_epoch(data, tmp_path):
    options = dict(lr=0.02, eval_every=4, patience=0, **QUIET)
    result = Trainer(epochs=3, max_seconds=1e-9, output=tmp_path, **options).fit(
        build('factors', data), data
    )
    assert (result.stopped, len(result.history), result.epoch) == ('time', 1, 0)
    assert result.validation == result.history[0]['val']
    assert json.loads((tmp_path / 'metrics.json').read_text())['stopped'] == 'time'
    again = Trainer(epochs=3, max_seconds=1e-9, output=tmp_path, **options).fit(
        build('factors', data), data, resume=True
    )
    assert again.stopped == 'time' and again.test == result.test and len(again.history) == 1
    resumed = Trainer(epochs=3, max_seconds=600, output=tmp_path, **options).fit(
        build('factors', data), data, resume=True
    )
    assert (resumed.stopped, len(resumed.history)) == ('epochs', 3)


@pytest.mark.parametrize('has_mask', [True, False])
@pytest.mark.parametrize('name', ['factors', 'popularity'])
def test_without_a_test_split_training_ends_with_validation_figures(data, tmp_path, name, has_mask):
    data = without(data, 'test')
    if not has_mask:
        del data['user', 'interacts', 'item'].test_mask
    model = Popularity(data) if name == 'popularity' else build(name, data)
    result = Trainer(epochs=2, output=tmp_path, **QUIET).fit(model, data)
    assert (
        result.test == {}
        and result.validation == evaluate(model, data, 'val')
        and result.not_measured == ['test']
    )
    written = json.loads((tmp_path / 'metrics.json').read_text())
    assert (
        written['test'] == {}
        and written['validation'] == result.validation
        and written['not_measured'] == ['test']
    )


@pytest.mark.parametrize('output', [True, False])
@pytest.mark.parametrize('splits', [('val',), ('val', 'test')])
def test_without_a_validation_split_the_last_epoch_is_kept(data, tmp_path, splits, output):
    data = without(data, *splits)
    model = build('factors', data)
    options = dict(lr=0.02, patience=1, eval_every=2, **QUIET)
    trainer = Trainer(epochs=5, output=tmp_path if output else None, **options)
    result = trainer.fit(model, data)
    assert result.validation == {} and (result.test == {}) == ('test' in splits)
    assert result.not_measured == ['validation', 'test'][: len(splits)]
    assert (result.epoch, len(result.history), result.stopped) == (4, 5, 'epochs')
    assert result.selection == 'last epoch, nothing was chosen'
    if not output:
        return
    assert json.loads((tmp_path / 'metrics.json').read_text())['selection'] == result.selection
    best = load_checkpoint(tmp_path / 'checkpoints' / 'best.pt')
    assert best['epoch'] == 4 and all(
        torch.equal(best['model'][key], value) for key, value in model.state_dict().items()
    )
    resumed = build('factors', data)
    Trainer(epochs=3, output=tmp_path / 'parts', **options).fit(build('factors', data), data)
    Trainer(epochs=5, output=tmp_path / 'parts', **options).fit(resumed, data, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters()))


def test_without_a_validation_split_time_still_ends_the_training(data):
    result = Trainer(epochs=5, max_seconds=1e-9, **QUIET).fit(
        build('factors', without(data, 'val')), without(data, 'val')
    )
    assert (result.epoch, result.stopped, len(result.history)) == (0, 'time', 1)


def test_published_protocol_without_a_test_split_is_refused_before_training(data, tmp_path):
    data = without(data, 'test')
    with pytest.raises(ConfigError, match="protocol: got 'published'.*accepted is 'validation'"):
        Trainer(epochs=2, protocol='published', output=tmp_path, **QUIET).fit(
            build('factors', data), data
        )
    assert not list(tmp_path.iterdir())


def test_models_without_training_need_no_validation_split(data, tmp_path):
    data = without(data, 'val')
    result = Trainer(output=tmp_path, **QUIET).fit(Popularity(data), data, resume=True)
    assert (
        result.validation == {}
        and result.test == evaluate(Popularity(data), data)
        and result.epoch == -1
    )
    assert result.selection == 'nothing was chosen'


def test_the_seed_decides_whatever_was_drawn_before(data):
    found = []
    for number in range(3):
        torch.manual_seed(number)
        found.append(Trainer(epochs=2, seed=5, **QUIET).fit(Factors(data), data))
    assert (
        comparable(found[0].history) == comparable(found[1].history) == comparable(found[2].history)
    )
    assert found[0].test == found[1].test == found[2].test
    assert comparable(
        Trainer(epochs=2, seed=6, **QUIET).fit(Factors(data), data).history
    ) != comparable(found[0].history)


def test_copied_converted_and_reset_models_are_drawn_anew_too(data):
    expected = Trainer(epochs=2, **QUIET).fit(Factors(data), data).test
    model = Factors(data)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.double().float()):
        assert Trainer(epochs=2, **QUIET).fit(other, data).test == expected
    model.reset_parameters()
    assert Trainer(epochs=2, **QUIET).fit(model, data).test == expected


@pytest.mark.parametrize(
    'change',
    ['trained', 'loaded', 'part loaded', 'stepped', 'assigned', 'one row', 'copied by data'],
)
def test_changed_parameters_are_where_training_goes_on(data, change):
    model, other = build('tied', data), build('tied', data)
    item = model.encoder.item_embedding
    if change == 'trained':
        Trainer(epochs=1, **QUIET).fit(model, data)
    elif change == 'loaded':
        model.load_state_dict(other.state_dict() | {'encoder.rho': torch.tensor(3.0)})
    elif change == 'part loaded':
        model.encoder.load_state_dict(other.encoder.state_dict() | {'rho': torch.tensor(3.0)})
    elif change == 'stepped':
        item.sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    elif change == 'assigned':
        model.encoder.item_embedding = torch.nn.Parameter(torch.full_like(item, 0.3))
    elif change == 'one row':
        with torch.no_grad():
            item[7] = 1.0
    else:
        item.data.copy_(torch.full_like(item, 0.3))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    assert not model.is_untrained()
    Trainer(epochs=1, lr=1e-12, **QUIET).fit(model, data)
    # they come first, the denoiser has a learning rate of its own
    encoder = sum(1 for _ in model.encoder.parameters())
    assert all(
        torch.allclose(a, b, atol=1e-9) for a, b in list(zip(before, model.parameters()))[:encoder]
    )


def test_mirror_gradient_of_zero_strength_is_plain_training(data):
    results = []
    for options in (dict(), dict(mirror_gradient=True, mg_alpha2=0.0)):
        model = build('factors', data)
        Trainer(epochs=3, lr=0.02, **options, **QUIET).fit(model, data)
        results.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results))
    model = build('factors', data)
    Trainer(epochs=3, lr=0.02, mirror_gradient=True, **QUIET).fit(model, data)
    assert not all(torch.equal(a, b) for a, b in zip(results[0], model.parameters()))


def test_mirror_gradient_takes_the_denoiser_too(data):
    """Two passes of 2 batches of 32 users at interval 2: in every pass the first is mirrored, which
    makes 6 steps.
    """
    steps = {}
    for name, options in (
        ('plain', dict()),
        ('zero', dict(mirror_gradient=True, mg_alpha2=0.0)),
        ('mirrored', dict(mirror_gradient=True, mg_interval=2)),
    ):
        torch.manual_seed(1)
        model = GenRec(data, **small_genrec('tied', denoiser_training={'batch_size': 32}))
        Trainer(epochs=2, eval_every=2, lr=0.02, **options, **QUIET).fit(model, data)
        state = model.state_dict()['generator._extra_state']['optimizer']
        counts = {float(entry['step']) for entry in state.get('optimizer', state)['state'].values()}
        steps[name] = counts, [p.detach().clone() for p in model.generator.denoiser.parameters()]
    assert steps['plain'][0] == steps['zero'][0] == {4.0} and steps['mirrored'][0] == {6.0}
    assert all(torch.equal(a, b) for a, b in zip(steps['plain'][1], steps['zero'][1]))
    # what one trainer asked for does not stay in the model
    Trainer(epochs=1, **QUIET).fit(model, data)
    assert 'optimizer' not in model.state_dict()['generator._extra_state']['optimizer']


def test_mirror_gradient_with_bfloat16_and_clipping(data, tmp_path):
    options = dict(
        lr=0.02, patience=0, precision='bf16', grad_clip=0.05, mirror_gradient=True, **QUIET
    )
    straight, resumed = build('factors', data), build('factors', data)
    expected = Trainer(epochs=4, output=tmp_path / 'a', **options).fit(straight, data)
    Trainer(epochs=1, output=tmp_path / 'b', **options).fit(build('factors', data), data)
    result = Trainer(epochs=4, output=tmp_path / 'b', **options).fit(resumed, data, resume=True)
    assert comparable(result.history) == comparable(expected.history)
    assert all(
        torch.equal(a, b) and a.dtype == torch.float32
        for a, b in zip(straight.parameters(), resumed.parameters())
    )


def test_recorded_loss_is_that_before_the_mirrored_step(data):
    losses = []
    for options in (dict(), dict(mirror_gradient=True, mg_interval=1)):
        model = build('factors', data)
        result = Trainer(epochs=1, lr=0.02, **{**QUIET, 'batch_size': 10**6}, **options).fit(
            model, data
        )
        losses.append(result.history[0]['loss'])
    assert losses[0] == losses[1]


def test_published_protocol_chooses_on_test_and_says_so(data, tmp_path):
    result = Trainer(epochs=5, lr=0.05, protocol='published', output=tmp_path, **QUIET).fit(
        build('factors', data), data
    )
    best = max(result.history, key=lambda record: record['test']['recall@20'])
    assert result.epoch == best['epoch'] and result.test['recall@20'] == best['test']['recall@20']
    assert (
        result.selection
        == 'chosen on test'
        == json.loads((tmp_path / 'metrics.json').read_text())['selection']
    )


def test_models_without_training_are_evaluated_once(data, tmp_path):
    model = Popularity(data)
    result = Trainer(output=tmp_path, **QUIET).fit(model, data)
    assert (
        result.epoch == -1
        and result.history == []
        and result.stopped is None
        and result.test == evaluate(model, data)
    )
    assert load_checkpoint(tmp_path / 'checkpoints' / 'best.pt')['model_name'] == 'Popularity'


def test_bf16_trains(data):
    result = Trainer(epochs=2, precision='bf16', **QUIET).fit(build('linear', data), data)
    assert 0 <= result.test['recall@20'] <= 1


@pytest.mark.parametrize(
    'arguments',
    [
        dict(epochs=0),
        dict(lr=0.0),
        dict(precision='int8'),
        dict(protocol='mine'),
        dict(monitor='recall@7'),
        dict(monitor='loss'),
        dict(sampler='all'),
        dict(device='tpu9'),
        dict(patience=-1),
        dict(batch_size=0),
        dict(max_seconds=0.0),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}.*: got'):
        Trainer(**arguments)


def test_a_model_of_another_split_is_not_fitted(data):
    first, second = (RandomSplit(0.2, 0.2, seed)(data) for seed in (0, 1))
    with pytest.raises(DataError, match='pairs of its val split are training pairs of the model'):
        Trainer(epochs=1, **QUIET).fit(build('factors', first), second)


def test_a_score_that_becomes_nan_stops_the_training(data):
    model = build('factors', data)
    with torch.no_grad():
        model.items[3] = float('nan')
    model.loss = lambda batch: {'zero': 0 * model.users.sum()}
    with pytest.raises(GenRecError, match='users are NaN or infinite'):
        Trainer(epochs=1, **QUIET).fit(model, data)


def test_the_output_stays_where_it_was_named(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = Trainer(epochs=1, output='run', **QUIET)
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    trainer.fit(build('factors', data), data)
    assert (tmp_path / 'run' / 'metrics.json').exists() and not list(
        (tmp_path / 'elsewhere').iterdir()
    )


@pytest.mark.parametrize(
    'interactions,expected',
    [
        (1_000, 256),
        (3_600, 256),
        (22_000, 2048),
        (44_327, 4096),
        (59_541, 4096),
        (158_792, 8192),
        (10**7, 8192),
    ],
)
def test_batches_of_automatic_size_follow_the_interactions(interactions, expected):
    graph = TrainingGraph(2, 2, torch.zeros(2, interactions, dtype=torch.long))
    batch_size, lr = Trainer(batch_size='auto', lr=0.005, device='cpu').schedule(graph)
    assert batch_size == expected and lr == pytest.approx(0.005 * (expected / 2048) ** 0.5)
    assert Trainer(batch_size=100, lr=0.5, device='cpu').schedule(graph) == (100, 0.5)


@pytest.mark.parametrize('steps', [1, 8, 7, 300, 10_000])
def test_steps_per_epoch_make_the_batch(data, steps):
    model = build('factors', data)
    trainer = Trainer(batch_size='auto', lr=0.01, steps_per_epoch=steps, device='cpu')
    batch_size, lr = trainer.schedule(model.graph)
    assert batch_size == math.ceil(model.graph.num_edges / steps) and lr == pytest.approx(
        0.01 * (batch_size / 2048) ** 0.5
    )
    loader = model.make_loader(batch_size, 'edge', steps)
    assert len(loader) <= steps and sum(batch.user.numel() for batch in loader) == loader.num_edges
    with pytest.raises(
        ConfigError, match=r"steps_per_epoch: got 2 .* accepted is it with batch_size='auto'"
    ):
        model.make_loader(1, 'edge', 2)


def test_sampled_neighborhoods_are_asked_of_the_model(data):
    trainer = Trainer(
        epochs=4,
        lr=0.05,
        batch_size=64,
        neighborhood='sampled',
        fan=3,
        device='cpu',
        progress=False,
    )
    model = get_model('LightGCN')(data, hidden_channels=4, num_layers=2)
    result = trainer.fit(model, data)
    assert model.fan == 3 and result.history[3]['loss']['bpr'] < result.history[0]['loss']['bpr']
    Trainer(epochs=1, device='cpu', progress=False).fit(model, data)
    assert model.fan is None
    with pytest.raises(ConfigError, match="neighborhood: got 'sampled' for EASE"):
        trainer.fit(get_model('EASE')(data), data)
    for options, message in (
        ({'neighborhood': 'some'}, "neighborhood: got 'some'"),
        ({'fan': 0}, 'fan: got 0'),
        ({'neighborhood': 'sampled', 'cuda_graph': True}, 'cuda_graph: got True with neighborhood'),
    ):
        with pytest.raises(ConfigError, match=message):
            Trainer(device='cpu', **options)


def test_batch_size_is_a_number_or_automatic():
    with pytest.raises(
        ConfigError, match="batch_size: got 'large', accepted are 'auto' and integers from 1"
    ):
        Trainer(batch_size='large')
