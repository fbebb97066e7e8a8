import torch

from genrec_pyg.nn.items import ItemTable


def test_padding_has_a_zero_row_and_no_gradient():
    table = ItemTable(3, 4, 0.5)
    item = torch.tensor([[2, 3], [0, 0]])
    rows = table.rows(item)
    assert (
        rows.shape == (2, 2, 4)
        and torch.equal(rows[0, 0], table()[2])
        and not bool(rows[0, 1].any())
    )
    rows.sum().backward()
    assert table.weight.grad[:, 0].tolist() == [2, 0, 1]


def test_rows_start_with_the_deviation_asked_for():
    table = ItemTable(3000, 64, 0.1768)
    assert abs(float(table.weight.detach().std()) / 0.1768 - 1) < 0.03
