"""From a log of one's own to lists with one's own ids, by command."""

import csv
import json

import pytest

from genrec_pyg.config import parse_train_arguments
from genrec_pyg.config.build import load_run
from genrec_pyg.datasets import demo_graph
from genrec_pyg.evaluate import main as evaluate
from genrec_pyg.graph import read_interactions
from genrec_pyg.recommend import main as recommend
from genrec_pyg.train import main as train

pytestmark = pytest.mark.slow

FAST = ['--references', 'false', '--device', 'cpu']


@pytest.fixture
def log(tmp_path, monkeypatch):
    """The interactions of a small demo under names as shops have them."""
    monkeypatch.chdir(tmp_path)
    user, item = read_interactions(demo_graph(num_users=60, num_items=40, num_clusters=4))
    (tmp_path / 'data' / 'shop').mkdir(parents=True)
    rows = [
        (f'u-{u}', f'sku-{i}', n, ('val', 'test', *9 * ['train'])[n % 11])
        for n, (u, i) in enumerate(zip(user.tolist(), item.tolist()))
    ]
    with open('data/shop/log.csv', 'w', newline='') as file:
        csv.writer(file).writerows([('customer', 'product', 'ts', 'part'), *rows])
    return rows


def test_a_log_is_trained_on_and_lists_come_in_its_own_ids(log, capsys):
    assert train(['--dataset', 'shop/log.csv', '--model', 'EASE', *FAST]) == 2
    error = capsys.readouterr().err
    assert "none of its columns ('customer', 'product', 'ts', 'part') is known as user" in error
    assert 'say which with --columns user=NAME' in error
    columns = ['--columns', 'user=customer', 'item=product']
    assert (
        train(
            [
                '--dataset',
                'shop/log.csv',
                '--model',
                'EASE',
                '--output',
                'run',
                '--k_core',
                '3',
                '--split',
                'leave-one-out',
                *columns,
                *FAST,
            ]
        )
        == 0
    )
    assert json.load(open('run/metrics.json'))['test']['recall@20'] > 0
    assert recommend(['run', '--users', 'u-17', '--k', '3', '--output', 'list.csv']) == 0
    rows = list(csv.DictReader(open('list.csv')))
    assert [row['user'] for row in rows] == ['u-17'] * 3
    known = {item for user, item, *_ in log if user == 'u-17'}
    assert all(row['item'].startswith('sku-') and row['item'] not in known for row in rows)

    with open('new.csv', 'w') as file:
        file.write(
            'user,item\nnew-1,sku-3\nnew-1,sku-5\nnew-2,sku-7\nnew-2,nothing\nlost,nothing\n'
        )
    open('few.txt', 'w').write('sku-1\nsku-3\nsku-9\nsku-11\n')
    open('never.txt', 'w').write('sku-9\n')
    lists = [
        '--history',
        'new.csv',
        '--candidates',
        'few.txt',
        '--block',
        'never.txt',
        '--output',
        'new.json',
    ]
    assert recommend(['run', *lists]) == 0
    offered = {(row['user'], row['item']) for row in json.load(open('new.json'))}
    assert offered == {
        ('new-1', 'sku-1'),
        ('new-1', 'sku-11'),
        ('new-2', 'sku-1'),
        ('new-2', 'sku-3'),
        ('new-2', 'sku-11'),
    }
    person = ['--history', 'sku-3', 'sku-5', '--k', '4', '--output', 'one.csv']
    assert recommend(['run', *person]) == 0
    rows = list(csv.DictReader(open('one.csv')))
    assert [row['user'] for row in rows] == ['history'] * 4
    assert not {row['item'] for row in rows} & {'sku-3', 'sku-5'}
    assert recommend(['run', '--history', 'sku-none.csv']) == 2
    assert 'neither a file nor an item' in capsys.readouterr().err
    open('never.txt', 'w').write('sku-x\n')
    assert recommend(['run', *lists]) == 2 and "the first is 'sku-x'" in capsys.readouterr().err
    assert (
        recommend(['run', '--k', '3']) == 2
        and 'accepted is one of the two' in capsys.readouterr().err
    )


def test_recbole_folder_trains_untouched(tmp_path, monkeypatch, shared_data):
    monkeypatch.chdir(tmp_path)
    flags = [
        '--root',
        str(shared_data),
        '--split',
        'leave-one-out',
        '--min_rating',
        '4',
        '--model',
        'ItemKNN',
    ]
    assert train(['--dataset', 'ml-100k', *flags, '--output', 'run', *FAST]) == 0
    assert recommend(['run', '--users', '196', '--k', '2', '--output', 'list.json']) == 0
    assert [row['user'] for row in json.load(open('list.json'))] == [196, 196]


def test_a_final_run_has_the_settings_of_another_and_keeps_nothing_out(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert (
        train(
            ['--model', 'MFBPR', '--epochs', '3', '--hparams.l2', '0.001', '--output', 'run', *FAST]
        )
        == 0
    )
    metrics = json.load(open('run/metrics.json'))
    # as if the second of three had been the best
    json.dump({**metrics, 'epoch': 1}, open('run/metrics.json', 'w'))
    assert (
        train(['--dataset', 'demo', '--final', 'run', '--output', 'final', '--device', 'cpu']) == 0
    )
    config, data, model, _ = load_run('final', device='cpu')
    assert bool(data['user', 'interacts', 'item'].train_mask.all())
    assert model.graph.num_edges == data['user', 'interacts', 'item'].edge_index.size(1)
    assert (config.epochs, config.hparams['l2'], config.split) == (2, 0.001, 'none')
    final = json.load(open('final/metrics.json'))
    assert (
        final['epoch'] == 1
        and not final['test']
        and final['not_measured'] == ['validation', 'test']
    )
    capsys.readouterr()
    assert evaluate(['final']) == 2 and 'none is left to evaluate on' in capsys.readouterr().err
    assert recommend(['final', '--users', '3', '--k', '2']) == 0


@pytest.mark.parametrize(
    'flags,message',
    [
        (['--model', 'EASE'], "--model: got 'EASE' with --final, accepted is 'MFBPR'"),
        (['--resume', 'run'], 'one of the two'),
        (['--split', 'random'], "--split: got 'random' with --final"),
        ([], 'accepted is the folder of a finished run'),
    ],
)
def test_what_contradicts_a_final_run_is_named(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'config.yaml').write_text(
        parse_train_arguments(['--model', 'MFBPR']).config.to_yaml()
    )
    if flags:
        (tmp_path / 'run' / 'metrics.json').write_text('{"epoch": 4}')
    assert train(['--final', 'run', *flags]) == 2 and message in capsys.readouterr().err


def test_a_grown_log_starts_from_the_run_before(log, capsys):
    columns = [
        '--columns',
        'user=customer',
        'item=product',
        '--split',
        'column:part',
        '--trainer.batch_size',
        '64',
    ]
    flags = [
        '--dataset',
        'shop/log.csv',
        '--model',
        'MFBPR',
        '--trainer.lr',
        '0.05',
        *columns,
        *FAST,
    ]
    assert train([*flags, '--epochs', '20', '--output', 'run']) == 0
    grown = (
        open('data/shop/log.csv').read()
        + 'u-0-new,sku-3,99999,train\nu-0-new,sku-new,99999,train\n'
    )
    open('data/shop/grown.csv', 'w').write(grown)
    grown = ['--dataset', 'shop/grown.csv', '--epochs', '1']
    for name, start in (('warm', ['--from', 'run']), ('cold', flags)):
        assert train([*start, *grown, '--output', name]) == 0
    losses = [
        json.loads(open(f'{name}/metrics.jsonl').readline())['loss']['bpr']
        for name in ('warm', 'cold')
    ]
    assert losses[0] < 0.8 * losses[1]
    capsys.readouterr()
    assert train(['--from', 'run', *grown, '--split', 'random']) == 1
    assert 'pairs of the val split are training pairs of the run' in capsys.readouterr().err
    assert (
        train(['--from', 'run', '--model', 'EASE']) == 2
        and "--model: got 'EASE' with --from" in capsys.readouterr().err
    )
