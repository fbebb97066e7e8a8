"""From raw logs over a prepared folder to a trained run, and what a kill or a second process
leaves.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from genrec_pyg.prepare import main as prepare
from genrec_pyg.recommend import main as recommend
from genrec_pyg.train import main as train

pytest.importorskip(
    'duckdb', reason='DUCKDB IS NOT INSTALLED: nothing is prepared (pip install .[prepare])'
)
pytestmark = pytest.mark.slow


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f'{{"who": "u {n % 40}", "what": "i{n * 7 % 23}", "when": {n}}}' for n in range(700)]
    (tmp_path / 'log.jsonl').write_text('\n'.join(rows))
    (tmp_path / 'items.tsv').write_text(
        'item_id\ttitle\n' + '\n'.join(f'i{n}\tThing, {n}' for n in range(23))
    )
    return [
        'log.jsonl',
        '--user',
        'who',
        '--item',
        'what',
        '--time',
        'when',
        '--items',
        'items.tsv',
    ]


def test_a_log_becomes_a_run(log, capsys):
    assert (
        prepare([*log, '--k_core', '2', '--split', 'time:0.1,0.1', '--output', 'shop/ready']) == 0
    )
    printed = capsys.readouterr().out
    assert (
        'split: time:0.1,0.1  560 train, 70 val, 70 test' in printed
        and 'train --dataset shop/ready' in printed
    )
    flags = ['--model', 'ItemKNN', '--references', 'false', '--device', 'cpu', '--output', 'run']
    assert train(['--dataset', 'shop/ready', *flags]) == 0
    os.chdir('shop')
    assert (
        recommend(
            ['../run', '--users', 'u 7', '--k', '2', '--exclude', 'none', '--output', 'list.json']
        )
        == 0
    )
    rows = json.load(open('list.json'))
    assert [row['user'] for row in rows] == ['u 7'] * 2 and all(
        row['title'] == f'Thing, {row["item"][1:]}' for row in rows
    )
    os.chdir('..')
    assert (
        prepare([*log, '--output', 'shop/ready']) == 2
        and 'is there already' in capsys.readouterr().err
    )
    assert prepare(['log.jsonl', '--output', 'other']) == 2
    assert "none of its columns ('who', 'what', 'when') is known as user" in capsys.readouterr().err


SLOW = """
import sys, time
from genrec_pyg.datasets.preparation import prepare
core = prepare._core
def slowly(*arguments):
    print('working', flush=True)
    time.sleep(float(sys.argv[1]))
    return core(*arguments)
prepare._core = slowly
from genrec_pyg.prepare import main
sys.exit(main(sys.argv[2:]))
"""


def test_a_kill_leaves_no_folder_and_a_second_process_waits_for_nobody(log, tmp_path, capsys):
    arguments = [sys.executable, '-c', SLOW, '60', *log, '--output', 'ready']
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == 'working\n'
            assert prepare([*log, '--output', 'ready']) == 2
            assert (
                f'process {process.pid} on' in (error := capsys.readouterr().err)
                and 'is preparing there' in error
            )
        finally:
            process.send_signal(signal.SIGKILL)
    assert not (tmp_path / 'ready').exists() and (tmp_path / '.ready.preparing').exists()
    assert prepare([*log, '--output', 'ready']) == 0
    assert (tmp_path / 'ready' / 'manifest.json').is_file() and not (
        tmp_path / '.ready.preparing'
    ).exists()


def test_an_interruption_and_a_full_disk_leave_nothing(log, tmp_path):
    arguments = [sys.executable, '-c', SLOW, '60', *log, '--output', 'ready']
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == 'working\n'
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130 and 'interrupted' in process.stderr.read()
    time.sleep(0.1)
    assert not list(tmp_path.glob('*ready*')) and not list(tmp_path.glob('.ready*'))
    limited = f'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); {SLOW}'
    done = subprocess.run(
        [sys.executable, '-c', limited, '0', *log, '--output', 'ready'],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and 'error: ' in done.stderr and 'unexpected' not in done.stderr, (
        done.stderr
    )
    assert not list(tmp_path.glob('*ready*')) and not list(tmp_path.glob('.ready*'))
