"""A package outside the repository, installed by pip, as every command sees it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.forked import run_command

from genrec_pyg.datasets import demo_graph
from genrec_pyg.graph import split_edges
from genrec_pyg.nn.models import get_model
from genrec_pyg.testing import check_model
from genrec_pyg.utils.plugins import GROUPS, installed

SOURCE = Path(__file__).resolve().parents[2] / 'examples' / 'plugin'


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    pytest.importorskip('setuptools')
    folder = tmp_path_factory.mktemp('plugin')
    copy = folder / 'source'
    copy.mkdir()
    for file in SOURCE.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    flags = ['--no-index', '--no-deps', '--no-build-isolation', '--quiet']
    done = subprocess.run(
        [sys.executable, '-m', 'pip', 'install', *flags, '--target', folder / 'site', copy],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / 'site'


@pytest.fixture
def run(site, tmp_path):
    def command(name, *arguments):
        done = run_command(name, *arguments, folder=tmp_path, path=[site])
        assert done.returncode == 0, done.stderr
        return done.stdout

    return command


def write_orders(folder):
    """The training interactions of the demo data as the file of a shop."""
    folder.mkdir(parents=True)
    user, item = split_edges(demo_graph(num_users=80, num_items=50, num_clusters=5), 'train')
    lines = [
        json.dumps({'who': f'ü-{u}', 'what': f'sku {i}'})
        for u, i in zip(user.tolist(), item.tolist())
    ]
    (folder / 'orders.jsonl').write_text('\n'.join(lines), 'utf-8')


@pytest.mark.slow
def test_entry_points_are_found_and_the_model_passes_the_checks(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    assert {group: list(installed(group)) for group in GROUPS[:3]} == {
        'genrec_pyg.models': ['SharedTaste'],
        'genrec_pyg.datasets': ['orders'],
        'genrec_pyg.metrics': ['first_hit'],
    }
    check_model(get_model('SharedTaste'), hidden_channels=8, share=0.3)


@pytest.mark.slow
def test_it_is_trained_tuned_compared_and_recommended_from_by_command(run, tmp_path):
    write_orders(tmp_path / 'data' / 'shop')
    data = ['--dataset', 'shop', '--split', 'random:0.1,0.2', '--references', 'false']
    run('train', '--model', 'SharedTaste', *data, '--epochs', '3', '--hparams.share', '0.4')
    folder = 'runs/SharedTaste-shop-seed0'
    metrics = json.loads((tmp_path / folder / 'metrics.json').read_text('utf-8'))
    assert 0 <= metrics['further']['test']['first_hit@20'] <= 1
    assert 'first_hit@10' in run('evaluate', folder)
    run('train', '--model', 'EASE', *data)
    assert '| SharedTaste | first_hit@20 |' in run(
        'compare', 'runs/EASE-shop-seed0', folder, '--metrics', 'first_hit@20'
    )
    rows = run('recommend', folder, '--users', 'ü-0', '--k', '3').splitlines()
    assert len(rows) == 4 and rows[1].startswith('ü-0,sku ')
    pytest.importorskip('optuna')
    run('tune', '--model', 'SharedTaste', *data, '--trials', '2', '--epochs', '2')
    study = tmp_path / 'runs' / 'tune-SharedTaste-shop'
    assert 'model: SharedTaste' in (study / 'best.yaml').read_text('utf-8')
    run('train', '--config', study / 'best.yaml', '--epochs', '1')
