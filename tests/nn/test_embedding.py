import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import Triples
from genrec_pyg.nn.embedding import NodeEmbedding, init_table

BATCH = Triples(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([2, 2]))


@pytest.mark.parametrize(
    'init,deviation',
    [
        ('xavier', (2 / 1064) ** 0.5),
        ('xavier_normal', (2 / 1064) ** 0.5),
        ('normal', 0.1),
        ('standard', 1.0),
    ],
)
def test_spread_of_the_start(init, deviation):
    table = torch.empty(1000, 64)
    init_table(table, init)
    assert (
        float(table.std()) == pytest.approx(deviation, rel=0.02)
        and abs(float(table.mean())) < 0.03 * deviation
    )
    if init == 'xavier':
        assert float(table.abs().max()) <= (6 / 1064) ** 0.5


def test_penalty_counts_with_multiplicity():
    tables = NodeEmbedding(1, 3, 2)
    with torch.no_grad():
        tables.user.copy_(torch.tensor([[1.0, 2.0]]))
        tables.item.copy_(torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 2.0]]))
    assert float(tables.penalty(BATCH)) == pytest.approx((5 + 5 + 1 + 4 + 4 + 4) / 4)
    assert float(tables.penalty(BATCH, negatives=False)) == pytest.approx((5 + 5 + 1 + 4) / 4)
    tables.penalty_rows = 'table'
    assert float(tables.penalty(BATCH)) == pytest.approx(5 + 162 + 1 + 4)
    assert tables.joint().shape == (4, 2)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(user_channels=0),
        dict(user_channels=2, init='zeros'),
        dict(user_channels=2, penalty_rows='l1'),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match='got'):
        NodeEmbedding(2, 2, **arguments)
