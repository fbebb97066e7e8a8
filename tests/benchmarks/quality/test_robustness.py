import json

import pytest
import torch

from benchmarks.quality import robustness
from benchmarks.quality.robustness_run import SharpnessPath, cost, parse, run
from genrec_pyg.datasets import demo_graph
from genrec_pyg.nn.models import get_model
from genrec_pyg.training import Trainer, seed_everything

DEMO = ['--dataset', 'demo', '--trainer.batch_size', '1024', '--epochs', '2']
SHARPNESS = dict(every=1, radius=0.05, num_iterations=2)
SMALL = [
    '--hparams.denoiser.rank',
    '8',
    '--hparams.debias.clusters',
    '2',
    '--hparams.hidden_channels',
    '8',
]


def result(value, perturbed=None, sharpness=()):
    figures = {'recall@20': value, 'ndcg@20': value / 2}
    perturbed = {
        kind: {strength: {'recall@20': moved} for strength, moved in strengths.items()}
        for kind, strengths in (perturbed or {}).items()
    }
    path = [
        {'epoch': epoch, 'increase': value, 'curvature': 2 * value, 'loss': 1.0}
        for epoch, value in sharpness
    ]
    return {
        'validation': figures,
        'test': figures,
        'epoch': 4,
        'epochs': 6,
        'seconds': 10.0,
        'perturbed': perturbed,
        'sharpness': path,
    }


@pytest.fixture
def runs():
    """GenRec: better with MG, under noise worse, under noise interactions without any spread. MFBPR
    reads no features.
    """

    def seeds(values, noisy, sharp):
        return {
            str(seed): result(
                value, {'noise': {'0.5': other, '1.0': other / 2}}, [(0, 1.0), (5, sharp)]
            )
            for seed, (value, other) in enumerate(zip(values, noisy))
        }

    genrec = {
        'none': {
            'plain': seeds([0.10, 0.11, 0.12], [0.09, 0.09, 0.09], 4.0),
            'MG': seeds([0.11, 0.12, 0.131], [0.08, 0.08, 0.085], 3.0),
        },
        'interactions 0.1': {'plain': {'0': result(0.08)}, 'MG': {'0': result(0.07)}},
    }
    same = {'0': result(0.05, {'noise': {'0.5': 0.05, '1.0': 0.05}})}
    return {'GenRec': genrec, 'MFBPR': {'none': {'plain': same, 'MG': same}}}


def test_comparisons_and_their_significance(runs):
    found = {(c.model, c.kind, c.strength): c for c in robustness.comparisons(runs)}
    clean, noisy = found['GenRec', 'none', 0.0], found['GenRec', 'noise', 0.5]
    # t interval 0.0103 +- 4.303 * 0.00058 / sqrt(3)
    assert clean.gain == pytest.approx(0.031 / 3) and clean.is_significant
    # half of it: 4.303 * 0.00289 / sqrt(3) = 0.0072
    assert noisy.gain == pytest.approx(-0.025 / 3) and noisy.is_significant
    single = found['GenRec', 'interactions', 0.1]
    assert single.gain == pytest.approx(-0.01) and not single.is_significant
    assert not robustness.Comparison(
        'x', 'none', 0, [0.1, 0.1, 0.1], [0.1, 0.12, 0.11]
    ).is_significant


def test_tables(runs):
    found, missed = robustness.split_unaffected(robustness.comparisons(runs))
    assert missed == {'noise': ['MFBPR']} and all(
        c.model == 'GenRec' for c in found if c.kind == 'noise'
    )
    assert robustness.kind_table(found, 'noise').splitlines()[2:] == [
        '| GenRec | 0.1100 ± 0.0100 | 0.0900 ± 0.0000 | 0.0450 ± 0.0000 |',
        '| GenRec + MG | 0.1203 ± 0.0105 | 0.0817 ± 0.0029 | 0.0408 ± 0.0014 |',
        '| difference | +0.0103* | -0.0083* | -0.0042* |',
    ]
    text = robustness.verdict(found)
    assert '| GenRec | 4 | 1 | 1 | 3 | 2 |' in text and '| MFBPR | 1 | 0 | 0 | 1 | 0 |' in text
    assert '* GenRec, noise 0.5: 0.0900 plain, 0.0817 with MG (-0.0083, significant)' in text
    assert '* GenRec, interactions 0.1: 0.0800 plain, 0.0700 with MG (-0.0100)' in text
    assert '* MFBPR, unperturbed: 0.0500 plain, 0.0500 with MG (+0.0000)' in text
    assert '| GenRec | 6 | 4 | 3 | 0.75 | 8 | 6 | 0.75 |' in robustness.sharpness_table(runs)
    assert '| GenRec + MG | 3 | 0.1203 ± 0.0105 |' in robustness.clean_table(runs)
    assert '| A | 2.000 | 3.000 | 1.50 | 3 |' in robustness.cost_table(
        {'A': {'plain': [1, 2, 9], 'mirrored': [3, 3, 4]}}
    )


ARGUMENTS = [
    '--models',
    'MFBPR',
    'GenRec',
    '--dataset',
    'demo',
    '--seeds',
    '0',
    '1',
    '--noise',
    '1',
    '--shuffled',
    '--dropped',
    '1',
    '--interactions',
    '0.5',
    '--training_noise',
]


def test_finished_measurements_are_not_repeated(tmp_path, monkeypatch, capsys):
    pytest.importorskip('matplotlib')
    calls = []

    def call(options, threads):
        calls.append(options)
        if options['task'] == 'cost':
            return {'plain': [1.0], 'mirrored': [1.3]}
        value = (
            0.1
            + 0.01 * ('--mirror_gradient' in options['flags'])
            + 0.001 * int(options['flags'][-1] == '1')
        )
        perturbed = {
            kind: {str(s): value / 2 for s in strengths}
            for kind, strengths in options['strengths'].items()
        }
        return result(value, perturbed, [(0, 1.0)] if options['every'] else ())

    monkeypatch.setattr(robustness, 'call', call)
    for _ in range(2):
        assert robustness.main([*ARGUMENTS, '--output', str(tmp_path)]) == 0
    trained = [options for options in calls if options['task'] == 'run']
    # seeds, models, conditions, optimizers
    assert len(calls) == len(trained) + 2 and len(trained) == 2 * 2 * 2 * 2
    first, fourth = trained[0], trained[3]
    assert first['training'] is None and first['strengths'] == {
        'noise': [1.0],
        'shuffled': [],
        'dropped': [1.0],
    }
    assert (
        fourth['training'] == ('interactions', 0.5)
        and fourth['strengths'] == {}
        and fourth['every'] == 0
    )
    assert '--mirror_gradient' in fourth['flags'] and '--mirror_gradient' not in first['flags']
    text = (tmp_path / 'robustness-demo.md').read_text()
    assert (
        '## Noise\n' in text
        and '## Dropped\n' in text
        and '## Interactions\n' in text
        and '## Shuffled' not in text
    )
    assert '| MFBPR | 1.000 | 1.300 | 1.30 | 1 |' in text
    for name in ('robustness-demo.svg', 'robustness-demo-sharpness.svg'):
        assert f']({name})' in text and (tmp_path / name).stat().st_size > 1000
    with pytest.raises(SystemExit):
        robustness.main([*ARGUMENTS, '--output', str(tmp_path), '--radius', '0.1'])
    assert '--radius: got 0.1, but' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['Nobody', 'EASE'])
def test_models_that_cannot_be_compared_are_named(name, capsys):
    with pytest.raises(SystemExit):
        robustness.main(['--models', 'GenRec', name])
    assert (
        f'--models: got {name}, accepted are models trained by gradient: GenRec, '
        in capsys.readouterr().err
    )


def test_a_training_is_the_users_and_meets_perturbed_features():
    flags = [
        '--model',
        'GenRec',
        *DEMO,
        *SMALL,
        '--mirror_gradient',
        '--seed',
        '3',
        '--hparams.interest.weight',
        '0',
    ]
    found = run(flags, None, {'noise': [0.0, 3.0], 'dropped': [1.0]}, **SHARPNESS)
    config = parse(flags)
    data = demo_graph()
    seed_everything(3)
    model = get_model('GenRec')(data, **config.hparams)
    expected = Trainer(
        epochs=2, seed=3, device='cpu', progress=False, mirror_gradient=True, **config.trainer
    ).fit(model, data)
    # sharpness changes no number
    assert found['test'] == {name: expected.test[name] for name in ('recall@20', 'ndcg@20')}
    assert found['epoch'] == expected.epoch and found['epochs'] == 2
    assert found['perturbed']['noise']['0.0'] == found['test']
    assert (
        found['perturbed']['noise']['3.0'] != found['test'] != found['perturbed']['dropped']['1.0']
    )
    assert [point['epoch'] for point in found['sharpness']] == [0, 1]
    assert all(point['increase'] > 0 for point in found['sharpness'])


def test_perturbed_trainings():
    flags = ['--model', 'MFBPR', *DEMO, '--trainer.lr', '0.05', '--epochs', '8']
    clean, noisy, same = (
        run(flags, training, {}, every=0, radius=1, num_iterations=1)['test']['recall@20']
        for training in (None, ('interactions', 3.0), ('training_noise', 1.0))
    )
    assert noisy < clean == same  # it reads no features


def test_sharpness_of_a_model_is_deterministic_and_grows_with_the_radius():
    torch.manual_seed(0)
    model = get_model('LightGCN')(demo_graph(60, 48, 4), hidden_channels=8)
    trainer = Trainer(epochs=1, device='cpu', progress=False)
    found = []
    for radius in (0.05, 0.05, 0.1):
        path = SharpnessPath(trainer, 0, radius, 3)
        torch.manual_seed(len(found))
        found.append(path.measure(model))
    assert (
        found[0] == found[1]
        and found[2]['increase'] > 1.9 * found[0]['increase'] > 0
        and model.training
    )


def test_cost_measures_both_in_turn():
    seconds = cost(['--model', 'MFBPR', *DEMO], repeats=2)
    assert set(seconds) == {'plain', 'mirrored'} and all(
        len(values) == 2 and min(values) > 0 for values in seconds.values()
    )


def test_call_runs_the_worker():
    options = {
        'task': 'run',
        'flags': ['--model', 'MFBPR', *DEMO],
        'training': None,
        'strengths': {},
        **SHARPNESS,
    }
    found = robustness.call(options, threads=1)
    assert found['epochs'] == 2 and 0 <= found['test']['recall@20'] <= 1 and json.dumps(found)
