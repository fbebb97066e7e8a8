import pytest
import torch

from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.diffusion import (
    FlipProcess,
    GaussianProcess,
    ItemViews,
    LinearDenoiser,
    SparseRows,
)
from genrec_pyg.ops import leading_eigenpairs


def random_graph(num_users=40, num_items=12, seed=0, **modalities):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(num_users, num_items, generator=generator) < 0.3
    return matrix.double(), TrainingGraph(
        num_users, num_items, matrix.nonzero().t().contiguous(), modalities
    )


def ridge(process, matrix):
    rates = process.rates(SparseRows.from_dense(matrix))
    up, down = float(rates.gamma_bar[-1]), float(rates.epsilon_bar[-1])
    degree, users = matrix.sum(dim=0), matrix.size(0)
    return (degree * down * (1 - down) + (users - degree) * up * (1 - up)) / (1 - up - down) ** 2


def weight_matrix(denoiser):
    denoiser.solve()
    return denoiser.query_weight.double() @ denoiser.key_weight.double().t()


def test_full_rank_solution_is_ease_with_the_ridge_of_the_flips():
    matrix, graph = random_graph()
    process = FlipProcess(scale=4.0)
    denoiser = LinearDenoiser(graph, process, rank=12).double()
    denoiser.reset_parameters()
    inverse = torch.linalg.inv(matrix.t() @ matrix + torch.diag(ridge(process, matrix)))
    expected = -inverse / inverse.diagonal()
    off_diagonal = ~torch.eye(12, dtype=torch.bool)
    assert torch.allclose(weight_matrix(denoiser)[off_diagonal], expected[off_diagonal], atol=1e-8)


def test_gaussian_noise_is_the_constant_ridge_of_ease():
    matrix, graph = random_graph()
    process = GaussianProcess(scale=20.0)
    denoiser = LinearDenoiser(graph, process, rank=12).double()
    denoiser.reset_parameters()
    left = float(process.rates(None).alpha_bar[-1])
    inverse = torch.linalg.inv(
        matrix.t() @ matrix + 40 * (1 - left) / left * torch.eye(12, dtype=torch.float64)
    )
    expected = -inverse / inverse.diagonal()
    off_diagonal = ~torch.eye(12, dtype=torch.bool)
    assert torch.allclose(weight_matrix(denoiser)[off_diagonal], expected[off_diagonal], atol=1e-8)
    noisy = torch.randn(40, 12, dtype=torch.float64)
    found = denoiser(noisy, torch.full((40,), 4), ItemViews(torch.empty(12, 0), 0, torch.empty(12)))
    assert torch.allclose(found, noisy / left**0.5 @ weight_matrix(denoiser), atol=1e-6)


def test_solution_minimizes_the_expected_error_over_sampled_flips():
    torch.manual_seed(0)
    matrix, graph = random_graph(num_users=30, num_items=6)
    process = FlipProcess(scale=3.0)
    rows = SparseRows.from_dense(matrix)
    rates = process.rates(rows)
    up = float(rates.gamma_bar[-1])
    contrast = 1 - float(rates.gamma_bar[-1]) - float(rates.epsilon_bar[-1])
    draws = [
        (process.diffuse(rows, torch.full((30,), 4), rates).dense() - up) / contrast
        for _ in range(4000)
    ]
    noisy = torch.stack(draws).double()
    moment = torch.einsum('kui,kuj->ij', noisy, noisy) / len(draws)
    assert torch.allclose(
        moment, matrix.t() @ matrix + torch.diag(ridge(process, matrix)), atol=0.5
    )


def test_modalities_are_rows_of_the_regression():
    features = torch.randn(12, 3)
    matrix, graph = random_graph(image=Modality('image', features, 12))
    process = FlipProcess(scale=4.0)
    denoiser = LinearDenoiser(graph, process, rank=12, modality_weight=2.0).double()
    denoiser.reset_parameters()
    centered = features.double() - features.double().mean(dim=0)
    unit = centered / centered.norm(dim=1, keepdim=True)
    inverse = torch.linalg.inv(
        matrix.t() @ matrix + 2.0 * unit @ unit.t() + torch.diag(ridge(process, matrix))
    )
    expected = -inverse / inverse.diagonal()
    off_diagonal = ~torch.eye(12, dtype=torch.bool)
    assert torch.allclose(weight_matrix(denoiser)[off_diagonal], expected[off_diagonal], atol=1e-5)


def test_query_of_noisy_rows_is_unbiased():
    torch.manual_seed(0)
    matrix, graph = random_graph()
    process = FlipProcess(scale=4.0)
    denoiser = LinearDenoiser(graph, process)
    views = ItemViews(torch.zeros(12, 1), 1, torch.zeros(12))
    clean = SparseRows.from_dense(matrix[:1])
    t = torch.full((20_000,), 2)
    rates = process.rates(SparseRows.from_dense(matrix))
    repeated = SparseRows.from_dense(matrix[:1].expand(20_000, -1))
    noisy = process.diffuse(repeated, t, rates)
    assert torch.allclose(
        denoiser.query(noisy, t, views).mean(dim=0), denoiser.clean_query(clean)[0], atol=0.02
    )


def test_result_does_not_touch_or_depend_on_the_global_generator():
    _, graph = random_graph()
    torch.manual_seed(1)
    first = LinearDenoiser(graph, FlipProcess())
    after = torch.rand(1)
    torch.manual_seed(2)
    second = LinearDenoiser(graph, FlipProcess())
    assert torch.equal(first.key_weight, second.key_weight)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))


def test_noiseless_process_gives_finite_weights():
    _, graph = random_graph()
    denoiser = LinearDenoiser(graph, FlipProcess(scale=0.0))
    assert bool(torch.isfinite(denoiser.query_weight).all()) and bool(
        torch.isfinite(denoiser.key_weight).all()
    )


@pytest.mark.parametrize('rank', [3, 10])
def test_leading_eigenpairs_of_a_decaying_spectrum(rank):
    basis = torch.linalg.qr(torch.randn(60, 60, dtype=torch.float64)).Q
    spectrum = 0.7 ** torch.arange(60, dtype=torch.float64)
    matrix = basis * spectrum @ basis.t()
    value, vector = leading_eigenpairs(lambda y: matrix @ y, 60, rank, 6, spectrum)
    assert torch.allclose(value, spectrum[:rank], atol=1e-8)
    assert torch.allclose(matrix @ vector, vector * value, atol=1e-6)
