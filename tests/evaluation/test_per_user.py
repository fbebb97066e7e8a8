import json

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from genrec_pyg.evaluation import Evaluator, read_per_user, write_per_user
from genrec_pyg.evaluation.lists import ranks
from genrec_pyg.evaluation.per_user import ranking_values
from genrec_pyg.exceptions import DataError
from genrec_pyg.nn.models import EASE, Popularity


def test_ranks():
    item = torch.tensor([[4, 2, 7], [0, 1, 2]])
    label = torch.tensor([[0, 0, 1, 1], [7, 0, 0, 2]])
    assert ranks(item, label).tolist() == [3, 0, 1, 3]
    assert ranks(item[:, :0], label).tolist() == [0, 0, 0, 0]


def test_values_by_hand():
    """One user finds two of three items at ranks 3 and 1, the other finds none."""
    found = ranking_values(torch.tensor([3, 0, 1, 0]), torch.tensor([0, 0, 0, 1]), 2, 3, 100)
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    expected = {
        'recall': 2 / 3,
        'ndcg': 1.5 / ideal,
        'precision': 2 / 3,
        'map': (1 + 2 / 3) / 3,
        'hit': 1.0,
        'mrr': 1.0,
    }
    for name, value in expected.items():
        assert found[f'{name}@3'].tolist() == pytest.approx([value, 0.0]), name
    shorter = ranking_values(torch.tensor([3, 0, 1, 0]), torch.tensor([0, 0, 0, 1]), 2, 2, 100)
    assert (
        shorter['recall@2'].tolist() == pytest.approx([1 / 3, 0.0]) and shorter['map@2'][0] == 1 / 2
    )


@pytest.mark.parametrize('split', ['val', 'test'])
def test_means_over_users_are_the_figures(demo_data, split):
    evaluator = Evaluator(demo_data, split, (1, 5, 200))  # 200: longer than there are items
    figures, _, values = evaluator.measure(EASE(demo_data), {})
    assert len(values.metrics) == 18
    for name in values.metrics:
        assert values.users[name].mean() == pytest.approx(figures[name], abs=2e-7), name
    assert values.users['user'].size == figures['num_users']
    assert values.pairs['rank'].size == values.users['held_out'].sum()
    found = (values.pairs['rank'] > 0) & (values.pairs['rank'] <= 5)
    share = np.bincount(values.pairs['user'], found) / np.bincount(values.pairs['user']).clip(min=1)
    assert values.users['recall@5'].tolist() == pytest.approx(share[values.users['user']].tolist())


def test_written_and_read_again(demo_data, tmp_path):
    values = Evaluator(demo_data).measure(Popularity(demo_data)).users
    write_per_user(tmp_path, values)
    found = read_per_user(tmp_path, 'test')
    assert found.origin == values.origin and found.metrics == values.metrics
    for before, after in ((values.users, found.users), (values.pairs, found.pairs)):
        assert all(np.array_equal(before[name], after[name]) for name in {**before, **after})


def test_another_split_has_another_origin(demo_data):
    from genrec_pyg.transforms import RandomSplit

    other = RandomSplit(seed=1)(demo_data)
    mine, others = (
        Evaluator(data).measure(Popularity(data)).users.origin for data in (demo_data, other)
    )
    assert mine['training'] != others['training'] and mine['held_out'] != others['held_out']


def rewrite(path, columns, metadata):
    parquet.write_table(pyarrow.table(columns).replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    'damage,message',
    [
        (lambda path: path.unlink(), 'there is no such file; python -m genrec_pyg.evaluate'),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), 'not a table of an evaluation'),
        (lambda path: rewrite(path, {'user': [1]}, {}), 'not a table of an evaluation'),
        (lambda path: rewrite(path, {'user': [1]}, {'genrec_pyg': '{}'}), "'id' is missing"),
        (
            lambda path: rewrite(
                path,
                {name: ['x'] for name in ('user', 'id', 'interactions', 'held_out')},
                {'genrec_pyg': '{}'},
            ),
            "'user' is missing or holds no numbers",
        ),
    ],
)
def test_damaged_tables_are_refused(demo_data, tmp_path, damage, message):
    write_per_user(tmp_path, Evaluator(demo_data).measure(Popularity(demo_data)).users)
    damage(tmp_path / 'users-test.parquet')
    with pytest.raises(DataError, match=message):
        read_per_user(tmp_path, 'test')


def test_tables_of_two_evaluations_are_refused(demo_data, tmp_path):
    values = Evaluator(demo_data).measure(Popularity(demo_data)).users
    write_per_user(tmp_path, values)
    table = parquet.read_table(tmp_path / 'pairs-test.parquet')
    rewrite(
        tmp_path / 'pairs-test.parquet',
        table,
        {'genrec_pyg': json.dumps({**values.origin, 'model': 'Other'})},
    )
    with pytest.raises(DataError, match='of another evaluation'):
        read_per_user(tmp_path, 'test')
