import pytest
import torch

from genrec_pyg.exceptions import CheckpointError
from genrec_pyg.runs.checkpoint import load_checkpoint, save_checkpoint
from genrec_pyg.runs.shards import StoredTable, in_memory, remove_unused_pieces, stored_tables

TABLE = torch.arange(35.0).view(7, 5)


def written(folder, cuts=(4, 3)):
    """A table in four pieces, and its entry in a checkpoint."""
    (folder / 'shards-a').mkdir(parents=True)
    pieces = []
    for number, (rows, columns) in enumerate(
        (r, c)
        for r in (slice(0, cuts[0]), slice(cuts[0], 7))
        for c in (slice(0, cuts[1]), slice(cuts[1], 5))
    ):
        torch.save({'0': TABLE[rows, columns].clone()}, folder / 'shards-a' / f'{number}.pt')
        pieces.append(
            [f'shards-a/{number}.pt', '0', rows.start, rows.stop, columns.start, columns.stop]
        )
    return {'table_in_pieces': pieces, 'shape': [7, 5], 'dtype': 'float32'}


@pytest.mark.parametrize('cuts', [(4, 3), (0, 5), (7, 0), (1, 4)])
def test_any_rows_and_columns_are_read(tmp_path, cuts):
    table = StoredTable(tmp_path, written(tmp_path, cuts))
    assert torch.equal(table.whole(), TABLE)
    for rows in (slice(0, 7), slice(2, 5), slice(6, 7), slice(3, 3)):
        for columns in (slice(0, 5), slice(1, 4), slice(4, 5), slice(0, 0)):
            assert torch.equal(table.read(rows, columns), TABLE[rows, columns])


def test_a_checkpoint_is_read_whole_or_with_its_pieces(tmp_path):
    entry = written(tmp_path)
    state = {
        'model': {'t': entry, 'b': torch.ones(2)},
        'optimizer': {'state': {0: {'step': 1.0, 'm': entry}}},
        'x': [1, 2],
    }
    save_checkpoint(tmp_path / 'last.pt', state)
    found = load_checkpoint(tmp_path / 'last.pt')
    assert torch.equal(found['model']['t'], TABLE) and torch.equal(
        found['optimizer']['state'][0]['m'], TABLE
    )
    lazy = stored_tables(load_checkpoint(tmp_path / 'last.pt', pieces=True), tmp_path)
    assert isinstance(lazy['model']['t'], StoredTable) and lazy['x'] == [1, 2]
    assert torch.equal(in_memory(lazy)['model']['t'], TABLE)


def test_pieces_that_nothing_names_are_removed(tmp_path):
    save_checkpoint(tmp_path / 'last.pt', {'model': {'t': written(tmp_path)}})
    (tmp_path / 'shards-b').mkdir()
    remove_unused_pieces(tmp_path)
    assert (tmp_path / 'shards-a' / '3.pt').exists() and not (tmp_path / 'shards-b').exists()


def test_a_missing_or_damaged_piece_is_named(tmp_path):
    table = StoredTable(tmp_path, written(tmp_path))
    (tmp_path / 'shards-a' / '0.pt').unlink()
    # which lies in another
    assert torch.equal(table.read(slice(5, 7), slice(3, 5)), TABLE[5:7, 3:5])
    with pytest.raises(CheckpointError, match='shards-a/0.pt: not a readable piece'):
        table.whole()
    torch.save({'0': torch.ones(1, 2)}, tmp_path / 'shards-a' / '0.pt')
    with pytest.raises(CheckpointError, match=r'a piece of shape \(1, 2\)'):
        table.whole()


@pytest.mark.parametrize(
    'change',
    [
        {'shape': [8, 5]},
        {'shape': 'many'},
        {'dtype': 'load'},
        {'dtype': None},
        {'table_in_pieces': [['a', '0', 0, 7, 0]]},
        {'table_in_pieces': [['../other.pt', '0', 0, 7, 0, 5]]},
        {'table_in_pieces': [['/other.pt', '0', 0, 7, 0, 5]]},
    ],
)
def test_a_wrong_entry_is_refused(tmp_path, change):
    with pytest.raises(
        CheckpointError, match='table in pieces is described by|accepted are files in this folder'
    ):
        StoredTable(tmp_path, {**written(tmp_path), **change})
