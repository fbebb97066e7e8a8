import torch

from genrec_pyg.nn.diffusion.states import (
    FactoredRows,
    ItemKeys,
    SparseRows,
    dense_rows,
    row_product,
)


def test_sparse_rows_are_their_dense_form():
    torch.manual_seed(0)
    dense = (torch.rand(4, 6) < 0.4).float()
    dense[2] = 0
    rows = SparseRows.from_dense(dense)
    assert torch.equal(rows.dense(), dense) and torch.equal(rows.count(), dense.sum(dim=1).long())
    assert rows.density() == dense.sum().item() / 24
    row, item = torch.cartesian_prod(torch.arange(4), torch.arange(6)).t()
    assert torch.equal(rows.contains(row, item), dense.bool().view(-1))


def test_products_of_every_form_of_rows():
    torch.manual_seed(0)
    rows, weight = SparseRows.from_dense(torch.rand(4, 6) < 0.5), torch.randn(6, 3)
    factored = FactoredRows(rows, 0.5, torch.randn(4, 2), ItemKeys(torch.randn(6, 2)))
    nested = FactoredRows(dense_rows(factored), 2.0, factored.query, factored.keys)
    for state in (rows, rows.dense(), factored, nested):
        assert torch.allclose(row_product(state, weight), dense_rows(state) @ weight, atol=1e-5)
    value = torch.randn(rows.col.numel())
    scaled = rows.dense().index_put((rows.row(), rows.col.long()), value)
    assert torch.allclose(row_product(rows, weight, value), scaled @ weight, atol=1e-5)


def test_products_of_keys_are_computed_once_per_weight():
    keys, weight = ItemKeys(torch.randn(5, 2)), torch.randn(5, 3)
    first = keys.product(weight)
    assert keys.product(weight) is first and torch.equal(first, keys.key.t() @ weight)
    assert keys.product(weight.clone()) is not first
