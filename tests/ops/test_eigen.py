import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import Adjacency, bipartite_block, block_krylov_svd


def random_block(num_users, num_items, num_edges, seed=0):
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.stack(
        [torch.randint(size, (num_edges,), generator=generator) for size in (num_users, num_items)]
    )
    return bipartite_block(edge_index, num_users, num_items, self_loops=False)


def dense(matrix):
    edge_index, value = matrix.to_edge_index()
    return torch.zeros(matrix.size, dtype=value.dtype).index_put(tuple(edge_index), value)


def test_path_by_hand():
    matrix = bipartite_block(torch.tensor([[0, 0, 1], [0, 1, 1]]), 2, 3, self_loops=False).to(
        torch.float64
    )
    left, value, right = block_krylov_svd(matrix, 5)
    assert value.tolist() == pytest.approx([1, 0.5])
    sign = left[0, 0].sign()
    assert (sign * left[:, 0]).tolist() == pytest.approx([(2 / 3) ** 0.5, (1 / 3) ** 0.5], abs=1e-6)
    assert (sign * right[:, 0]).tolist() == pytest.approx(
        [(1 / 3) ** 0.5, (2 / 3) ** 0.5, 0], abs=1e-6
    )


@pytest.mark.parametrize('size', [(40, 25), (25, 40), (3, 60), (1, 1)])
def test_small_matrices_are_exact(size):
    matrix = random_block(*size, 120)
    left, value, right = block_krylov_svd(matrix, 12)
    expected = torch.linalg.svdvals(dense(matrix))[:12]
    assert torch.allclose(value, expected, atol=1e-5)
    assert torch.allclose(left.t() @ left, torch.eye(len(value)), atol=1e-4)
    assert torch.allclose(dense(matrix) @ right, left * value, atol=1e-5)


def test_a_spectrum_without_decay():
    """2,000 x 1,500 nodes of six links each: singular values fall slowly, where subspace iteration
    is far off.
    """
    matrix = random_block(2000, 1500, 12_000)
    left, value, right = block_krylov_svd(matrix, 32)
    u, expected, v = torch.linalg.svd(dense(matrix).double(), full_matrices=False)
    assert expected[1] - expected[31] < 0.15  # the first is 1, for the largest component
    assert torch.allclose(value.double(), expected[:32], atol=5e-3)
    assert torch.allclose(left.t() @ left, torch.eye(32), atol=1e-4)
    assert torch.allclose(right.t() @ right, torch.eye(32), atol=1e-4)
    leading = u[:, :8] * expected[:8] @ v[:8]
    assert (
        leading - ((left[:, :8] * value[:8]) @ right[:, :8].t()).double()
    ).norm() < 0.02 * leading.norm()


def test_the_result_neither_depends_on_the_global_state_nor_changes_it():
    matrix = random_block(60, 50, 300)
    torch.manual_seed(1)
    first = block_krylov_svd(matrix, 4)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = block_krylov_svd(matrix, 4)
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


def test_a_matrix_of_zeros():
    matrix = Adjacency.from_edge_index(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0), (5, 4))
    assert block_krylov_svd(matrix, 3)[1].tolist() == pytest.approx([0, 0, 0])


@pytest.mark.parametrize('arguments', [dict(rank=0), dict(rank=1, num_steps=-1)])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{list(arguments)[-1]}: got'):
        block_krylov_svd(random_block(5, 5, 9), **arguments)
