import json
from pathlib import Path

import pytest

pytest.importorskip('safetensors', reason='NO BUNDLE IS TESTED: pip install "genrec_pyg[serve]"')

from genrec_pyg.export import main, served_ids
from genrec_pyg.serving.bundle import read_bundle
from genrec_pyg.train import main as train


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(['--model', 'EASE', '--output', 'run', '--references', 'false']) == 0
    return tmp_path / 'run'


def test_a_run_becomes_a_bundle(run, capfd, caplog):
    before = {path: path.read_bytes() for path in run.rglob('*') if path.is_file()}
    assert main(['run', '--output', 'bundle']) == 0
    assert 'bundle: EASE on demo, 600 users, 400 items, ' in capfd.readouterr().out
    assert 'without rank: EASE has no item' in caplog.text
    bundle = read_bundle('bundle')
    assert bundle.manifest['metrics'] == json.loads((run / 'metrics.json').read_text())
    assert bundle.manifest['selection'] and bundle.users == list(range(600))
    assert {path: path.read_bytes() for path in run.rglob('*') if path.is_file()} == before
    name = bundle.name
    assert (
        main(['run', '--output', 'bundle']) == 0 and read_bundle('bundle').name == name
    )  # the same to the bit


def test_bad_usage(run, capsys):
    assert main(['run']) == 2 and main(['run', '--output', '']) == 2
    assert main(['run', '--output', 'run']) == 2
    assert 'is the run itself' in capsys.readouterr().err
    Path('other').mkdir()
    Path('other/notes').touch()
    assert (
        main(['nowhere', '--output', 'other']) == 2 and "holds 'notes'" in capsys.readouterr().err
    )
    assert main(['nowhere', '--output', 'new']) == 2 and not Path('new').exists()


def test_ids_are_told_apart_as_texts(demo_data):
    import copy

    data = copy.copy(demo_data)
    data['user'].raw_id = [1, '1', *range(2, 120)]
    with pytest.raises(ValueError, match="user: two have the id '1'"):
        served_ids(data, 'user')
    data['user'].raw_id = [1.5, *range(2, 121)]
    assert served_ids(data, 'user')[:2] == ['1.5', 2]
