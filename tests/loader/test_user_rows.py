import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.loader import UserRowLoader, UserRows
from genrec_pyg.ops import Adjacency

EDGES = torch.tensor([[0, 0, 2, 4, 4, 4], [1, 3, 0, 0, 2, 3]])  # users 1, 3 and 5 have no item
ITEMS = [[1, 3], [], [0], [], [0, 2, 3], []]


def make_graph():
    return TrainingGraph(6, 4, EDGES)


@pytest.mark.parametrize(
    'source',
    [make_graph(), Adjacency.from_edge_index(EDGES, size=(6, 4))],
    ids=['graph', 'adjacency'],
)
def test_rows(source):
    loader = UserRowLoader(source, batch_size=4)
    batches = list(loader)
    assert len(loader) == len(batches) == 2
    assert [batch.user.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5]]
    for batch in batches:
        assert isinstance(batch, UserRows)
        assert batch.user.dtype == torch.long
        assert batch.rowptr.numel() == batch.user.numel() + 1
        for row, user in enumerate(batch.user.tolist()):
            assert batch.col[batch.rowptr[row] : batch.rowptr[row + 1]].tolist() == ITEMS[user]


def test_shuffle_takes_every_user_once():
    loader = UserRowLoader(make_graph(), batch_size=2, shuffle=True)
    torch.manual_seed(0)
    first = list(loader)
    second = list(loader)
    orders = [torch.cat([batch.user for batch in batches]).tolist() for batches in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(6)) and orders[0] != orders[1]
    for batch in first:
        for row, user in enumerate(batch.user.tolist()):
            assert batch.col[batch.rowptr[row] : batch.rowptr[row + 1]].tolist() == ITEMS[user]
    torch.manual_seed(0)
    assert torch.cat([batch.user for batch in loader]).tolist() == orders[0]


def test_no_users():
    loader = UserRowLoader(TrainingGraph(0, 4, torch.empty(2, 0, dtype=torch.long)))
    assert len(loader) == 0 and list(loader) == []


def test_bad_batch_size():
    with pytest.raises(ConfigError, match='batch_size: got -1'):
        UserRowLoader(make_graph(), batch_size=-1)


def test_repr():
    assert (
        repr(UserRowLoader(make_graph(), batch_size=4))
        == 'UserRowLoader(6, batch_size=4, shuffle=False)'
    )
