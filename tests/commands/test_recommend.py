import copy
import csv
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from genrec_pyg import retrieval
from genrec_pyg.datasets import demo_graph
from genrec_pyg.exceptions import ConfigError, DataError, GenRecError
from genrec_pyg.graph import split_edges
from genrec_pyg.nn.models import EASE, get_model
from genrec_pyg.recommend import find_users, main, top_items, write_table
from genrec_pyg.train import main as train
from genrec_pyg.transforms import RandomSplit


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(['--model', 'EASE', '--output', 'run', '--references', 'false']) == 0
    return tmp_path / 'run'


def test_formats_agree(run, capfdbinary):
    from pyarrow import parquet

    for suffix in ('csv', 'json', 'parquet'):
        assert main([str(run), '--users', '3', '17', '--k', '4', '--output', f'list.{suffix}']) == 0
    rows = list(csv.DictReader(open('list.csv')))
    assert (
        list(rows[0]) == ['user', 'item', 'rank', 'score']
        and [r['user'] for r in rows] == ['3'] * 4 + ['17'] * 4
    )
    records = json.load(open('list.json'))
    table = parquet.read_table('list.parquet').to_pylist()
    assert records == table and [r['item'] for r in records] == [int(r['item']) for r in rows]
    assert [r['rank'] for r in records] == [1, 2, 3, 4] * 2
    assert main([str(run), '--users', '3', '--k', '2']) == 0
    assert len(list(csv.reader(io.StringIO(capfdbinary.readouterr().out.decode())))) == 3


@pytest.mark.parametrize(
    'exclude,splits',
    [
        ('train', ['train']),
        ('seen', ['train', 'val']),
        ('known', ['train', 'val', 'test']),
        ('none', []),
    ],
)
def test_known_items_are_left_out_and_the_order_is_that_of_the_scores(exclude, splits):
    data = demo_graph()
    model = EASE(data)
    columns = top_items(model, data, torch.arange(600), k=400, exclude=exclude, batch_size=100)
    known = {tuple(pair) for split in splits for pair in split_edges(data, split).t().tolist()}
    assert len(columns['user']) == 600 * 400 - len(known)
    assert not known & set(zip(columns['user'], columns['item']))
    scores = model.score(torch.tensor([5]))[0]
    mine = [i for u, i in zip(columns['user'], columns['item']) if u == 5]
    assert mine == sorted(mine, key=lambda i: (-float(scores[i]), i))


def test_raw_ids(tmp_path):
    data = demo_graph()
    data['user'].raw_id = [f'u{i}' for i in range(600)]
    data['item'].raw_id = torch.arange(400) + 1000
    assert find_users(['u3', 'u10'], data).tolist() == [3, 10]
    (tmp_path / 'users').write_text('u4\n\nu5\nu4\n')
    assert find_users([f'@{tmp_path}/users', 'u6'], data).tolist() == [4, 5, 6]
    assert find_users(['all'], data).numel() == 600
    columns = top_items(EASE(data), data, torch.tensor([4]), k=3)
    assert columns['user'] == ['u4'] * 3 and min(columns['item']) >= 1000
    with pytest.raises(
        ConfigError, match="--users: no user '7', accepted are 600 ids such as u0 and u599"
    ):
        find_users(['7'], data)


def test_bad_usage(run, capsys):
    assert main([str(run), '--users', '9999']) == 2 and "no user '9999'" in capsys.readouterr().err
    assert main([str(run), '--users', '1', '--k', '0']) == 2
    assert main([str(run), '--users', '@nowhere']) == 2
    assert main([str(run)]) == 2


def test_the_suffix_names_the_format_in_capitals_too(run):
    assert main([str(run), '--users', '3', '--k', '2', '--output', 'LIST.JSON']) == 0
    assert [record['rank'] for record in json.load(open('LIST.JSON'))] == [1, 2]


def test_a_destination_that_cannot_be_written_is_told_before_the_run_is_loaded(tmp_path, capsys):
    (tmp_path / 'file').touch()
    for output, message in (
        (tmp_path, 'is a folder'),
        (f'{tmp_path}/new/', 'is a folder'),
        (f'{tmp_path}/file/lists.csv', 'is no folder'),
    ):
        assert main(['nowhere', '--users', 'all', '--output', str(output)]) == 1
        assert message in capsys.readouterr().err


def test_lists_go_into_a_pipe_and_through_a_link(run, capfdbinary):
    assert main([str(run), '--users', '3', '--k', '2']) == 0
    expected = capfdbinary.readouterr().out
    os.mkfifo('pipe')
    got = []
    reader = threading.Thread(target=lambda: got.append(Path('pipe').read_bytes()))
    reader.start()
    assert main([str(run), '--users', '3', '--k', '2', '--output', 'pipe']) == 0
    reader.join(timeout=20)
    assert got == [expected]
    Path('target.csv').write_text('old')
    Path('link.csv').symlink_to('target.csv')
    assert main([str(run), '--users', '3', '--k', '2', '--output', 'link.csv']) == 0
    assert Path('link.csv').is_symlink() and Path('target.csv').read_bytes() == expected


@pytest.mark.slow
@pytest.mark.parametrize('form', ['csv', 'json', 'parquet'])
def test_a_list_that_does_not_fit_is_an_error(run, form):
    command = (
        f'ulimit -f 64; exec {sys.executable} -m genrec_pyg.recommend {run} --users all --format '
        f'{form}'
    )
    with open('lists', 'wb') as file:
        done = subprocess.run(
            ['bash', '-c', command],
            env={**os.environ, 'PYTHONUNBUFFERED': '1'},
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1 and 'standard output: cannot be written' in done.stderr


@pytest.mark.slow
def test_a_reader_that_leaves_is_an_error(run):
    command = (
        f'set -o pipefail; {sys.executable} -m genrec_pyg.recommend {run} --users all | head -n 1'
    )
    done = subprocess.run(
        ['bash', '-c', command],
        env={**os.environ, 'PYTHONUNBUFFERED': '1'},
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode == 1
        and done.stdout == 'user,item,rank,score\n'
        and 'Broken pipe' in done.stderr
    )


def test_a_model_of_another_split_is_refused():
    data, other = (RandomSplit(seed=seed)(demo_graph(100, 80, 6)) for seed in (0, 1))
    with pytest.raises(DataError, match='pairs of its val split are training pairs of the model'):
        top_items(EASE(data), other, torch.arange(5), exclude='train')
    with pytest.raises(
        DataError,
        match='it has 90 users and 80 items, the model was made from a graph with 100 and 80',
    ):
        top_items(EASE(data), demo_graph(90, 80, 6), torch.arange(5))


def test_validation_pairs_in_the_training_are_no_harm_where_they_are_left_out():
    data = demo_graph(100, 80, 6)
    both = copy.deepcopy(data)
    store = both['user', 'interacts', 'item']
    store.train_mask = store.train_mask | store.val_mask
    store.val_mask = torch.zeros_like(store.val_mask)
    top_items(EASE(both), data, torch.arange(5), exclude='seen')
    with pytest.raises(DataError, match='its val split'):
        top_items(EASE(both), data, torch.arange(5), exclude='train')


def test_more_items_than_there_are_give_the_rows_of_all(monkeypatch):
    data = demo_graph(100, 80, 6)
    model = EASE(data)
    expected = top_items(model, data, torch.arange(100), k=80)
    widths = []
    search = retrieval.index.topk_excluding
    monkeypatch.setattr(
        retrieval.index,
        'topk_excluding',
        lambda scores, k, *args: widths.append(k) or search(scores, k, *args),
    )
    assert top_items(model, data, torch.arange(100), k=10**9) == expected
    assert set(widths) == {80}


def test_scores_that_are_no_numbers_are_not_listed():
    data = demo_graph(100, 80, 6)
    model = EASE(data)
    model.weight.fill_(float('nan'))
    with pytest.raises(GenRecError, match='scores of 5 users are NaN or infinite'):
        top_items(model, data, torch.arange(5))


def test_no_item_that_the_user_has_is_offered_unless_asked_for(run):
    known = set(map(tuple, demo_graph()['user', 'interacts', 'item'].edge_index.t().tolist()))
    assert main([str(run), '--users', 'all', '--output', 'known.csv']) == 0
    offered = {(int(row['user']), int(row['item'])) for row in csv.DictReader(open('known.csv'))}
    assert len(offered) == 12_000 and not offered & known
    assert main([str(run), '--users', 'all', '--exclude', 'none', '--output', 'none.csv']) == 0
    offered = {(int(row['user']), int(row['item'])) for row in csv.DictReader(open('none.csv'))}
    assert len(offered & known) > 1_000
    data = demo_graph(60, 60, 6)
    for wrong in ({'exclude': 'all'}, {'k': 0}):
        with pytest.raises(ConfigError, match=f'{next(iter(wrong))}: got'):
            top_items(EASE(data), data, torch.arange(5), **wrong)


@pytest.mark.parametrize('index', ['exact', 'approximate'])
def test_embeddings_are_computed_once_per_call(monkeypatch, index):
    if index == 'approximate':
        pytest.importorskip('faiss')
    data, calls = demo_graph(60, 60, 6), []
    model = get_model('LightGCN')(data).eval()
    plain = type(model).embed
    monkeypatch.setattr(type(model), 'embed', lambda self: calls.append(0) or plain(self))
    for _ in range(3):
        top_items(model, data, torch.arange(10), batch_size=2, index=index)
    assert len(calls) == 3


def test_what_the_call_reads_is_not_written_over(run, capsys):
    Path('users').write_text('3\n')
    Path('link').symlink_to('users')
    for output in (
        'users',
        'link',
        'run/config.yaml',
        'run/checkpoints/best.pt',
        'run/../run/metrics.json',
    ):
        before = Path(output).read_bytes()
        assert main(['run', '--users', '@users', '--output', output]) == 2
        assert (
            'accepted is another file' in capsys.readouterr().err
            and Path(output).read_bytes() == before
        )
    assert main(['run', '--users', '@users', '--output', 'run/lists.csv']) == 0
    for name in ('new.parquet', 'text.npy', 'text.ids.txt', 'blocked'):
        Path(name).write_bytes(b'kept')
        flags = (
            ['--item-features', 'a=text.npy', 'b=new.parquet:title']
            if name != 'blocked'
            else ['--block', name]
        )
        assert main(['run', '--users', '3', *flags, '--output', name]) == 2
        assert (
            f'{name} is read or kept' in capsys.readouterr().err
            and Path(name).read_bytes() == b'kept'
        )


@pytest.mark.parametrize(
    'flags,message',
    [
        ([], '--users, --history: accepted is one of the two'),
        (['--users', '1', '--history', 'x.csv'], '--users, --history: accepted is one of the two'),
        (['--history', 'x.csv', '--exclude', 'none'], "--exclude: got 'none' with --history"),
        (
            ['--history', 'x.csv', '--index', 'approximate'],
            "--index: got 'approximate' with --history",
        ),
        (
            ['--users', '1', '--item-features', 'a=b.npy', '--index', 'approximate'],
            "--index: got 'approximate' with --item_features",
        ),
        (
            ['--users', '1', '--item-features', 'a=b.npy', '--exclude', 'none'],
            "--exclude: got 'none' with --item_features",
        ),
        (
            ['--users', '1', '--item-features', 'a=b.npy', '--why'],
            '--why: got 3 with --item_features',
        ),
        (
            ['--users', '1', '--item-features', 'b.npy'],
            "--item_features: got 'b.npy', accepted are NAME=FILE",
        ),
        (['--users', '1', '--why', '-1'], '--why: got -1'),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, message, capsys):
    assert main(['nowhere', *flags]) == 2 and message in capsys.readouterr().err


def test_users_of_repeated_flags_add_up(run):
    assert (
        main(['run', '--users', '3', '--users', '17', '3', '--k', '1', '--output', 'lists.csv'])
        == 0
    )
    assert [row['user'] for row in csv.DictReader(open('lists.csv'))] == ['3', '17']


def test_names_of_users_in_files_are_utf_8_and_may_begin_with_an_at(tmp_path, monkeypatch):
    data = demo_graph(60, 60, 6)
    data['user'].raw_id = ['@home', 'ü', *(f'u{i}' for i in range(58))]
    (tmp_path / 'users').write_bytes('\ufeffü\r\n@home\r\n'.encode())
    monkeypatch.setattr('locale.getpreferredencoding', lambda *_: 'ascii')
    assert find_users([f'@{tmp_path}/users'], data).tolist() == [1, 0]
    assert find_users(['@home'], data).tolist() == [0]
    (tmp_path / 'users').write_text('')
    assert top_items(EASE(data), data, find_users([f'@{tmp_path}/users'], data)) == {
        'user': [],
        'item': [],
        'rank': [],
        'score': [],
    }


@pytest.mark.parametrize(
    'argv',
    [
        ['', '--users', '1'],
        ['run', '--users', '1', '--output', ''],
        ['run', '--users', '1', '--root', ''],
    ],
)
def test_empty_names_are_refused(run, argv, capsys):
    assert main(argv) == 2 and 'empty name' in capsys.readouterr().err


@pytest.mark.parametrize(
    'make',
    [
        np.arange,
        lambda n: [np.int64(i) for i in range(n)],
        lambda n: list(torch.arange(n)),
        lambda n: tuple(f'u{i}' for i in range(n)),
    ],
)
def test_raw_ids_of_any_container_can_be_written(make, tmp_path):
    data = demo_graph(100, 80, 6)
    data['user'].raw_id, data['item'].raw_id = make(100), make(80)
    columns = top_items(EASE(data), data, torch.arange(5), k=3)
    for form in ('csv', 'json'):
        write_table(columns, form, tmp_path / form)
    records = json.loads((tmp_path / 'json').read_text())
    assert [str(record['user']).removeprefix('u') for record in records] == [
        str(u) for u in range(5) for _ in range(3)
    ]


def test_users_are_numbers_in_range():
    data = demo_graph(100, 80, 6)
    model = EASE(data)
    expected = top_items(model, data, torch.tensor([3, 1]), k=2)
    assert (
        expected
        == top_items(model, data, [3, 1], k=2)
        == top_items(model, data, np.array([3, 1]), k=2)
    )
    for user in ([100], [-1], [0, 1000]):
        with pytest.raises(ConfigError, match='user: got numbers from .* accepted are 0 to 99'):
            top_items(model, data, user)
