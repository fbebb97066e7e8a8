import pytest
import torch

from genrec_pyg.distributed.keyed import ROWS_PER_KEY, keyed_dropout, mix


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_a_row_has_the_same_draws_in_every_cut(dtype):
    x = torch.randn(2 * ROWS_PER_KEY + 300, 3, dtype=dtype)
    torch.manual_seed(5)
    whole = keyed_dropout(x, 0.3, True)
    for cuts in ([1, 17, ROWS_PER_KEY], [ROWS_PER_KEY + 1, ROWS_PER_KEY + 1], [0, len(x)]):
        begin, parts = 0, []
        for end in [*cuts, len(x)]:
            torch.manual_seed(5)
            parts.append(keyed_dropout(x[begin:end], 0.3, True, begin))
            begin = end
        assert torch.equal(torch.cat(parts), whole)


def test_draws_are_uniform_new_every_time_and_unbiased():
    x = torch.ones(40_000, 5)
    torch.manual_seed(0)
    first, second = keyed_dropout(x, 0.25, True), keyed_dropout(x, 0.25, True)
    for mask in (first, second):
        assert float((mask == 0).float().mean()) == pytest.approx(
            0.25, abs=5 * (0.25 * 0.75 / x.numel()) ** 0.5
        )
        assert float(mask.max()) == pytest.approx(4 / 3)
    agree = float(((first == 0) & (second == 0)).float().mean())
    assert agree == pytest.approx(0.0625, abs=0.003)
    blocks = (
        (first == 0).float()[:ROWS_PER_KEY],
        (first == 0).float()[ROWS_PER_KEY : 2 * ROWS_PER_KEY],
    )
    assert float((blocks[0] * blocks[1]).mean()) == pytest.approx(0.0625, abs=0.02)


def test_nothing_is_drawn_where_nothing_is_dropped():
    x = torch.randn(4, 2)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert keyed_dropout(x, 0.5, False) is x and keyed_dropout(x, 0.0, True) is x
    assert torch.equal(torch.get_rng_state(), before)
    assert not keyed_dropout(x, 1.0, True).any() and keyed_dropout(x[:0], 0.5, True).shape == (0, 2)


def test_seeds_of_blocks_differ():
    seeds = {mix(key, block) for key in range(30) for block in range(30)}
    assert len(seeds) == 900 and all(0 <= seed < 2**63 for seed in seeds)
