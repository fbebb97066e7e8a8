import pytest
import torch

from genrec_pyg.nn.items import FusedRows, ItemRows, ItemTable


class Given(ItemRows):
    """Content rows that are given."""

    def __init__(self, rows):
        super().__init__(*rows.shape)
        self.given = torch.nn.Parameter(rows)

    def compute(self, item):
        return self.given[item]


def fused(fusion, **arguments):
    """Learned row (1, -1), content (0, 2)."""
    table = ItemTable(1, 2, 1.0)
    side = FusedRows(table, Given(torch.tensor([[0.0, 2.0]])), fusion, **arguments).eval()
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[1.0, -1.0]]))
    return side


def test_the_sum_is_the_row():
    assert fused('add')().tolist() == [[1.0, 1.0]]


def test_a_layer_over_both_the_learned_row_first():
    side = fused('concat')
    with torch.no_grad():
        side.layers[1].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, -0.5]]))
    assert side()[0].tolist() == pytest.approx([0.841345, -0.158655], abs=1e-6)


@pytest.mark.parametrize(
    'fusion, fusion_layers, widths',
    [
        ('add', 0, []),
        ('add', 2, [2, 2]),
        ('concat', 0, [4]),
        ('concat3', 0, [4, 2, 2]),
        ('concat', 1, [4, 2]),
    ],
)
def test_layers_have_these_inputs(fusion, fusion_layers, widths):
    layers = fused(fusion, num_layers=fusion_layers).layers
    assert [layer.in_features for layer in layers if isinstance(layer, torch.nn.Linear)] == widths


def test_penalties_count_the_learned_rows_alone():
    side = fused('add')
    assert torch.equal(side.id_rows(torch.tensor([0, 0])), side.table.weight[[0, 0]])
    assert side.content.id_rows(torch.tensor([0])).shape == (0, 2)
