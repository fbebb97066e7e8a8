"""What flips and noise have in common."""

import pytest
import torch

from genrec_pyg.nn.diffusion import (
    PROCESSES,
    DiffusionProcess,
    SparseRows,
    make_process,
)
from genrec_pyg.nn.diffusion.states import dense_rows


def rows_of(x):
    return SparseRows.from_dense(torch.tensor(x))


@pytest.mark.parametrize('name', PROCESSES)
def test_corrected_states_are_unbiased_and_have_the_stated_variance(name):
    torch.manual_seed(0)
    process = make_process(name, num_steps=3, scale=8.0)
    rows = rows_of([[1, 1, 0, 0, 0]] * 30_000)
    rates = process.rates(rows)
    for step in range(3):
        shift, scale = process.unbiased(rates)[step].tolist()
        estimate = (
            dense_rows(process.diffuse(rows, torch.full((30_000,), step), rates)) - shift
        ) / scale
        assert estimate.mean(dim=0).tolist() == pytest.approx([1, 1, 0, 0, 0], abs=0.02)
    # An item that all users have and one that none has.
    variance = process.estimate_variance(torch.tensor([30_000.0, 30_000, 0, 0, 0]), 30_000, rates)
    assert (30_000 * estimate.var(dim=0)).tolist() == pytest.approx(variance.tolist(), rel=0.06)


@pytest.mark.parametrize('name', PROCESSES)
def test_a_step_back_with_the_truth_does_not_leave_the_marginal(name):
    """Drawing x_t, then x_{t-1} given x_t and x_0, is drawing x_{t-1}."""
    torch.manual_seed(0)
    process = make_process(name, num_steps=3, scale=8.0)
    rows = rows_of([[1, 0, 0, 0]] * 40_000)
    rates = process.rates(rows)
    before = dense_rows(process.diffuse(rows, torch.full((40_000,), 1), rates))
    state = process.diffuse(rows, torch.full((40_000,), 2), rates)
    found = dense_rows(process.reverse(state, rows.dense(), 2, rates))
    assert found.mean(dim=0).tolist() == pytest.approx(before.mean(dim=0).tolist(), abs=0.015)
    assert found.var(dim=0).tolist() == pytest.approx(before.var(dim=0).tolist(), abs=0.01)


@pytest.mark.parametrize('name', PROCESSES)
def test_step_weights_are_positive(name):
    rows = rows_of([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]])
    process = make_process(name, num_steps=4)
    rates = process.rates(rows)
    weight = process.step_weight(rows, rates)
    assert weight.shape == (4,) and bool((weight > 0).all()) and weight[0] == 1
    # The first and the last ratio differ by what is lost on the way; the variance per entry is that
    # of the whole table.
    variance = process.entry_variance(rows.density(), rates)
    assert weight[1:].sum().item() == pytest.approx((1 / variance[0] - 1 / variance[-1]).item())
    popularity = torch.tensor([1.0, 1, 0, 0, 0], dtype=torch.float64)
    assert process.estimate_variance(popularity, 2, rates).mean().item() / 2 == pytest.approx(
        variance[-1].item()
    )
    assert (
        make_process(name, num_steps=4, weighting='equal').step_weight(rows, rates).tolist()
        == [1.0] * 4
    )


@pytest.mark.parametrize('name', PROCESSES)
def test_without_drawing_a_chain_from_clean_rows_with_the_truth_keeps_their_order(name):
    rows = rows_of([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1]])
    process = make_process(name, sample_noise=False)
    state, rates = rows, process.rates(rows)
    for t in range(4, 0, -1):
        state = process.reverse(state, rows.dense(), t, rates)
    assert torch.equal(dense_rows(state).round(), rows.dense())


def test_the_interface_is_no_process():
    with pytest.raises(TypeError):
        DiffusionProcess(5)
