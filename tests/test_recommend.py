import csv
import io
import json

import pytest
import torch

from genrec_pyg.datasets import demo_graph
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import split_edges
from genrec_pyg.nn.models import EASE
from genrec_pyg.recommend import find_users, main, top_items, write_table
from genrec_pyg.train import main as train


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
    assert list(rows[0]) == ['user', 'item', 'rank', 'score'] and [r['user'] for r in rows] == ['3'] * 4 + ['17'] * 4
    records = json.load(open('list.json'))
    table = parquet.read_table('list.parquet').to_pylist()
    assert records == table and [r['item'] for r in records] == [int(r['item']) for r in rows]
    assert [r['rank'] for r in records] == [1, 2, 3, 4] * 2
    assert main([str(run), '--users', '3', '--k', '2']) == 0
    assert len(list(csv.reader(io.StringIO(capfdbinary.readouterr().out.decode())))) == 3


@pytest.mark.parametrize('exclude,splits', [('train', ['train']), ('seen', ['train', 'val'])])
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
    with pytest.raises(ConfigError, match="--users: no user '7', accepted are 600 ids such as u0 and u599"):
        find_users(['7'], data)


def test_bad_usage(run, capsys):
    assert main([str(run), '--users', '9999']) == 2 and "no user '9999'" in capsys.readouterr().err
    assert main([str(run), '--users', '1', '--k', '0']) == 2
    assert main([str(run), '--users', '@nowhere']) == 2
    assert main([str(run)]) == 2


def test_parquet_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'pyarrow', None)
    with pytest.raises(ConfigError, match='needs the package pyarrow'):
        write_table({'user': [1]}, 'parquet', tmp_path / 'x.parquet')
    assert not list(tmp_path.iterdir())
