import os
import subprocess
import sys
from pathlib import Path

import pytest

from genrec_pyg.config import build, resolve_config
from genrec_pyg.datasets import demo_graph
from genrec_pyg.exceptions import CheckpointError
from genrec_pyg.training import Trainer


def test_a_run_notices_changed_features_and_names_changed_held_out_pairs(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    data = demo_graph(60, 48, 4)
    monkeypatch.setattr(build, 'load_dataset', lambda *arguments, **options: data)
    config = resolve_config('VBPR', 'demo', {'modalities': ['image']})
    model = build.make_model(config, data)
    Trainer(epochs=1, output='run', progress=False, device='cpu').fit(model, data)
    Path('run/config.yaml').write_text('model: VBPR\ndataset: demo\nmodalities: [image]\n')
    build.load_run('run')
    assert 'not those of the training' not in caplog.text
    data['user', 'interacts', 'item'].test_mask[:] = False
    build.load_run('run')
    assert 'the pairs of the test split are not those of the training' in caplog.text
    data['image'].x = data['image'].x * 2
    with pytest.raises(CheckpointError, match='another training graph'):
        build.load_run('run')


def test_a_modality_that_came_after_the_training_is_left_out(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    data = demo_graph(60, 48, 4)
    x, edge_index = data['text'].x, data['item', 'has', 'text'].edge_index
    del data['text'], data['item', 'has', 'text']
    monkeypatch.setattr(build, 'load_dataset', lambda *arguments, **options: data)
    config = resolve_config('VBPR', 'demo')
    model = build.make_model(config, data)
    Trainer(epochs=1, output='run', progress=False, device='cpu').fit(model, data)
    Path('run/config.yaml').write_text('model: VBPR\ndataset: demo\n')
    names = list(model.graph.modalities)
    data['text'].x, data['item', 'has', 'text'].edge_index = x, edge_index
    caplog.set_level('INFO')
    assert list(build.load_run('run').model.graph.modalities) == names
    assert "modality 'text' was added after the training and is left out" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize('closed', ['<&- 2>&-', '2>/dev/full'])
def test_commands_work_with_closed_streams(tmp_path, closed):
    arguments = '--model MFBPR --epochs 1 --references false --output'
    for name, more, code in (('run', '', 0), ('wrong', '--trainer.lr 0', 2)):
        done = subprocess.run(
            [
                'bash',
                '-c',
                f'exec {sys.executable} -m genrec_pyg.train {arguments} {name} {more} {closed}',
            ],
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
        )
        assert done.returncode == code and (b'MFBPR' in done.stdout) == (code == 0)
    assert {path.name for path in (tmp_path / 'run').iterdir()} >= {'metrics.json', 'train.log'}


@pytest.mark.slow
def test_a_closed_standard_output_is_told_before_the_training(tmp_path):
    command = f'exec {sys.executable} -m genrec_pyg.train --model MFBPR --output run >&-'
    done = subprocess.run(
        ['bash', '-c', command],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (
        done.returncode == 1
        and 'standard output is closed' in done.stderr
        and not list(tmp_path.iterdir())
    )
