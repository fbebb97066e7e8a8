import importlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks.quality import published
from genrec_pyg.config.build import load_run
from genrec_pyg.datasets import load_dataset
from genrec_pyg.graph import split_edges

SHORT = [
    '--flags',
    '--epochs',
    '3',
    '--trainer.batch_size',
    '64',
    '--trainer.lr',
    '0.05',
    '--hparams.hidden_channels',
    '8',
]


@pytest.fixture
def root(tmp_path):
    """30 users of two tastes and 20 items in MMRec's layout, 8:1:1 per user."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'data' / 'sports'
    folder.mkdir(parents=True)
    lines = ['userID\titemID\trating\ttimestamp\tx_label']
    for user in range(30):
        items = rng.permutation(np.arange(10) + 10 * (user % 2))
        lines += [
            f'{user}\t{item}\t5.0\t{100 + rank}\t{max(rank - 7, 0)}'
            for rank, item in enumerate(items)
        ]
    (folder / 'sports.inter').write_text('\n'.join(lines) + '\n')
    for name, width in (('image', 6), ('text', 4)):
        np.save(folder / f'{name}_feat.npy', rng.standard_normal((20, width)).astype(np.float32))
    return folder.parent


@pytest.fixture
def commands(monkeypatch):
    """Runs commands in this process and lists them."""
    called, others = [], subprocess.run

    def run(command, **options):
        if command[0] != sys.executable:
            return others(command, **options)
        called.append(command[2:])
        if importlib.import_module(command[2]).main(command[3:]) != 0:
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(published.subprocess, 'run', run)
    return called


def arguments(root, tmp_path, *more):
    return [
        '--root',
        str(root),
        '--models',
        'MFBPR',
        '--runs',
        str(tmp_path / 'runs'),
        '--output',
        str(tmp_path / 'results'),
        *more,
    ]


def test_one_command_prints_measured_beside_published(
    root, tmp_path, commands, capsys, monkeypatch
):
    monkeypatch.setitem(
        published.PUBLISHED['sports'], 'MFBPR', ((0.1, 0.1, 0.1, 0.2), (0.11, 0.1, 0.12, 0.1))
    )
    options = arguments(root, tmp_path, '--alpha2', '0.1', '0.3', *SHORT)
    assert published.main(options) == 0
    assert [command[0] for command in commands] == ['genrec_pyg.train', 'genrec_pyg.evaluate'] * 3
    printed = capsys.readouterr().out
    document = json.loads((tmp_path / 'results' / 'published-sports.json').read_text())
    runs = document['runs']['MFBPR']
    assert set(runs['MG']) == {'0.1', '0.3'} and document['published'] == 'sports'
    best = published.best_alpha(runs['MG'])
    lines = [line for line in printed.splitlines() if line.startswith('|')][2:]
    assert lines[0].startswith(f'| MFBPR | {runs["plain"]["test"]["recall@5"]:.4f} (0.1000) |')
    assert lines[1].startswith(f'| MFBPR + MG ({best}) |') and '(0.1200)' in lines[1]
    assert all(f'({gain})' in lines[2] for gain in ('+10.0 %', '+0.0 %', '+20.0 %', '-50.0 %'))
    assert lines[0] in (tmp_path / 'results' / 'published-sports.md').read_text()
    before = len(commands)
    assert published.main(options) == 0 and len(commands) == before  # nothing is repeated
    with pytest.raises(SystemExit):
        published.main([*options, '--seed', '1'])
    assert 'holds a run with seed 999, asked is 1' in capsys.readouterr().err


def test_figures_by_hand(root, tmp_path, commands):
    """Lists of 5 of a trained run without training items, validation items allowed, and the four
    figures by their formulas.
    """
    assert published.main(arguments(root, tmp_path, *SHORT)) == 0
    found = json.loads((tmp_path / 'results' / 'published-sports.json').read_text())['runs'][
        'MFBPR'
    ]['plain']
    run = load_run(str(tmp_path / 'runs' / 'sports' / 'MFBPR' / 'plain'), str(root))
    assert (
        run.config.trainer['ks'] == [5]
        and run.config.trainer['monitor'] == 'recall@5'
        and run.config.seed == 999
    )
    data = load_dataset('sports', root)
    with run.model.cached_embeddings():
        score = run.model.score(torch.arange(30))
    score[tuple(split_edges(data, 'train'))] = -torch.inf
    user, item = split_edges(data, 'test')
    held_out = torch.zeros(30, 20).index_put((user, item), torch.ones(user.numel()))
    hit = held_out.gather(1, score.topk(5).indices).double()
    count = held_out.sum(dim=1).double().clamp(max=5)
    place = torch.arange(1, 6)
    discount = 1 / torch.log2(place + 1.0).double()
    ideal = torch.stack([discount[: int(n)].sum() for n in count])
    expected = {
        'recall@5': hit.sum(dim=1) / held_out.sum(dim=1),
        'precision@5': hit.mean(dim=1),
        'map@5': (hit.cumsum(dim=1) / place * hit).sum(dim=1) / count,
        'ndcg@5': (hit * discount).sum(dim=1) / ideal,
    }
    for name, values in expected.items():
        assert found['test'][name] == pytest.approx(float(values.mean()), rel=1e-5), name
    assert 0 < found['test']['map@5'] < found['test']['recall@5']


def test_an_interrupted_run_goes_on(root, tmp_path, commands):
    options = arguments(root, tmp_path, *SHORT)
    folder = tmp_path / 'runs' / 'sports' / 'MFBPR' / 'plain'
    assert published.main(options) == 0
    expected = json.loads((folder / 'metrics.json').read_text())
    for name in ('metrics.json', 'evaluation-test.json'):  # as if it had stopped before its end
        (folder / name).unlink()
    commands.clear()
    assert published.main(options) == 0
    assert [command[0] for command in commands] == [
        'genrec_pyg.train',
        'genrec_pyg.evaluate',
    ] and '--resume' in commands[0]
    assert json.loads((folder / 'metrics.json').read_text())['test'] == expected['test']


@pytest.mark.parametrize(
    'more, message',
    [
        (['--models', 'MMGCN2'], 'got MMGCN2, accepted are models trained by gradient'),
        (['--models', 'EASE'], 'got EASE, accepted are models trained by gradient'),
        (['--dataset', 'baby'], 'baby holds no \\*.inter; accepted is a folder in MMRec'),
    ],
)
def test_bad_arguments_are_named(root, tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as error:
        published.main(['--root', str(root), *more])
    assert error.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_default_models_are_those_of_the_published_table(monkeypatch):
    import argparse

    from genrec_pyg.nn import models

    parser = argparse.ArgumentParser()
    monkeypatch.setattr(
        models, 'MODELS', {'LightGCN': 'light_gcn', 'FREEDOM': 'light_gcn', 'VBPR': 'light_gcn'}
    )
    monkeypatch.setattr(models, 'get_model', lambda name: type(name, (), {'trainable': True}))
    assert published.choose_models(None, published.PUBLISHED['sports'], parser) == [
        'VBPR',
        'FREEDOM',
    ]
    with pytest.raises(SystemExit):
        published.choose_models(None, {}, parser)


def test_published_figures_are_plausible():
    """Precision@5 of one or few held-out items is about a fifth of recall, MAP is below NDCG, and
    MG gains in every row.
    """
    pairs = [pair for models in published.PUBLISHED.values() for pair in models.values()]
    assert len(pairs) == 8 + 6
    for plain, mirrored in pairs:
        for recall, precision, average, ndcg in (plain, mirrored):
            assert 0.21 < precision / recall < 0.24 and average < ndcg < recall
        assert all(a < b for a, b in zip(plain, mirrored))
