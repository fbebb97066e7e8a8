import json
import sys
import types

import pytest

from genrec_pyg.runs.history import History, environment


def test_records_are_appended_and_later_ones_cut_on_resume(tmp_path):
    history = History(tmp_path)
    for epoch in range(3):
        history.append({'epoch': epoch, 'loss': {'bpr': 1.0 / (epoch + 1)}, 'seconds': 0.5})
    history.close()
    assert [json.loads(line)['epoch'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()] == [0, 1, 2]
    resumed = History(tmp_path, epochs_done=2)
    assert [record['epoch'] for record in resumed.records] == [0, 1]
    assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == 2


def test_tensorboard_events_are_written_where_it_is_installed(tmp_path):
    history = History(tmp_path)
    history.append({'epoch': 0, 'val': {'recall@20': 0.5}})
    history.close()
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return
    assert list((tmp_path / 'tensorboard').glob('events*'))


@pytest.mark.parametrize('error', ['TypeError("Descriptors cannot be created directly.")', 'AttributeError("distutils")',
                                   'RuntimeError', 'ImportError("no protobuf")'])
def test_a_broken_tensorboard_stops_nothing(tmp_path, monkeypatch, caplog, error):
    (tmp_path / 'path' / 'tensorboard').mkdir(parents=True)
    (tmp_path / 'path' / 'tensorboard' / '__init__.py').write_text(f'raise {error}')
    for name in [name for name in sys.modules if name.split('.')[0] == 'tensorboard' or 'utils.tensorboard' in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / 'path'))
    caplog.set_level('INFO')
    history = History(tmp_path)
    history.append({'epoch': 0, 'val': {'recall@20': 0.5}})
    history.close()
    assert json.loads((tmp_path / 'metrics.jsonl').read_text()) == {'epoch': 0, 'val': {'recall@20': 0.5}}
    assert [message for message in caplog.messages if message.startswith('TensorBoard')]
    assert 'ImportError' in error or error.partition('(')[0] in caplog.text


@pytest.mark.parametrize('broken', ['add_scalar', 'close'])
def test_a_tensorboard_that_breaks_later_stops_nothing(tmp_path, monkeypatch, caplog, broken):
    def fail(*arguments):
        raise OSError('no space left')

    methods = {'__init__': lambda self, *a, **k: None, 'add_scalar': lambda *a: None, 'close': lambda self: None, broken: fail}
    module = types.ModuleType('torch.utils.tensorboard')
    module.SummaryWriter = type('SummaryWriter', (), methods)
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    history = History(tmp_path)
    for epoch in range(2):
        history.append({'epoch': epoch})
    history.close()
    assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == 2
    assert caplog.messages == ['TensorBoard does not work (OSError: no space left): figures go to metrics.jsonl only']


def test_memory_only():
    history = History()
    history.append({'epoch': 0})
    history.close()
    assert history.records == [{'epoch': 0}]


def test_environment_names_versions():
    assert {'torch', 'torch_geometric', 'genrec_pyg', 'python', 'threads'} <= set(environment())
