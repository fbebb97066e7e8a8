import json
import shutil
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip('fastapi', reason='NO SERVICE IS TESTED: pip install "genrec_pyg[serve]"')
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'serving'))
from service import service

from genrec_pyg.config.build import load_run
from genrec_pyg.export import main as export
from genrec_pyg.recommend import main as recommend
from genrec_pyg.recommend import top_items
from genrec_pyg.serve import main
from genrec_pyg.train import main as train


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    """A bundle without its run and data, and what recommend listed."""
    folder = tmp_path_factory.mktemp('serve')
    run, out = str(folder / 'run'), folder / 'bundle'
    assert (
        train(['--model', 'LightGCN', '--epochs', '1', '--output', run, '--references', 'false'])
        == 0
    )
    assert export([run, '--output', str(out)]) == 0
    _, data, model, _ = load_run(run)
    return out, top_items(model, data, range(600), k=10)


def get(address, path, body=None, **headers):
    request = urllib.request.Request(
        address + path,
        None if body is None else json.dumps(body).encode(),
        {'content-type': 'application/json', **headers},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_served_lists_are_those_of_recommend_where_torch_cannot_be_imported(bundle):
    folder, expected = bundle
    with service(folder) as running:
        got = [
            entry['item']
            for begin in range(0, 600, 100)
            for each in get(
                running.address, '/recommend', {'users': list(range(begin, begin + 100)), 'k': 10}
            )['lists']
            for entry in each['items']
        ]
    assert got == expected['item']


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_an_end_in_order_answers_what_has_arrived(bundle, number):
    with service(bundle[0]) as running:
        wrong, count, stop = [], [0], threading.Event()

        def load():
            while not stop.is_set():
                try:
                    get(running.address, '/recommend', {'users': list(range(50)), 'k': 50})
                    count[0] += 1
                except urllib.error.URLError as error:
                    if not isinstance(error.reason, ConnectionRefusedError):
                        wrong.append(error)
                    return
                except (
                    ConnectionError,
                    OSError,
                ) as error:  # accepted by the system, never read by the service
                    wrong.append(error) if not isinstance(error, ConnectionResetError) else None
                    return

        clients = [threading.Thread(target=load) for _ in range(4)]
        for client in clients:
            client.start()
        time.sleep(1)
        running.process.send_signal(number)
        assert running.process.wait(30) == 0
        stop.set()
        for client in clients:
            client.join(30)
        assert count[0] > 4 and not wrong


@pytest.mark.slow
def test_a_token_from_a_file_or_the_environment(bundle, tmp_path):
    (tmp_path / 'token').write_text('s3cret\n')
    for arguments, environment in (
        (['--token_file', tmp_path / 'token'], {}),
        ([], {'GENREC_TOKEN': 's3cret'}),
    ):
        with service(bundle[0], *arguments, **environment) as running:
            with pytest.raises(urllib.error.HTTPError, match='401'):
                get(running.address, '/recommend?user=1')
            assert get(running.address, '/recommend?user=1', authorization='Bearer s3cret')['lists']
            assert 's3cret' not in ''.join(running.log)


def test_bad_usage(tmp_path, capsys, bundle):
    assert main([str(tmp_path)]) == 1 and 'holds no manifest.json' in capsys.readouterr().err
    for arguments in (
        ['--port', '70000'],
        ['--max_k', '0'],
        ['--poll', '0'],
        ['--host', 'no such host'],
        ['--token_file', str(tmp_path / 'none')],
        ['--threads', '0'],
        ['--index', 'x'],
    ):
        assert main([str(bundle[0]), *arguments]) == 2 and arguments[0] in capsys.readouterr().err
    (tmp_path / 'token').write_text('\n')
    assert main([str(bundle[0]), '--token_file', str(tmp_path / 'token')]) == 2
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        assert main([str(bundle[0]), '--port', str(taken.getsockname()[1])]) == 2
        assert 'cannot listen on 127.0.0.1' in capsys.readouterr().err


def test_what_is_missing_is_named_with_the_way_to_get_it(monkeypatch, capsys):
    import importlib.util

    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: None if name == 'fastapi' else object()
    )
    assert main(['bundle']) == 2
    assert 'fastapi: not installed; pip install "genrec_pyg[serve]"' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    'options', [['LightGCN', '--epochs', '1'], ['ItemKNN']], ids=['LightGCN', 'ItemKNN']
)
def test_lists_of_all_users_of_lfm2k_without_its_data(shared_data, tmp_path, options):
    root, run, out = tmp_path / 'data', str(tmp_path / 'run'), tmp_path / 'bundle'
    shutil.copytree(shared_data / 'lfm2k', root / 'lfm2k')
    where = ['--dataset', 'lfm2k', '--root', str(root)]
    assert train(['--model', *options, *where, '--output', run, '--references', 'false']) == 0
    assert export([run, '--output', str(out)]) == 0
    assert (
        recommend([run, '--users', 'all', '--k', '20', '--output', f'{tmp_path}/lists.json']) == 0
    )
    expected: dict = {}
    for row in json.loads((tmp_path / 'lists.json').read_text()):
        expected.setdefault(row['user'], []).append(row['item'])
    shutil.rmtree(root)
    shutil.rmtree(run)
    users = list(expected)
    assert len(users) == 1858
    with service(out) as running:
        for begin in range(0, len(users), 100):
            body = {'users': users[begin : begin + 100], 'k': 20}
            for each in get(running.address, '/recommend', body)['lists']:
                assert [entry['item'] for entry in each['items']] == expected[each['user']]
