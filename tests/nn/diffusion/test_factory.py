import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import training_graph
from genrec_pyg.nn.diffusion import (
    DENOISERS,
    PROCESSES,
    FlipProcess,
    GaussianProcess,
    ItemViews,
    SparseRows,
    make_denoiser,
    make_process,
)


@pytest.mark.parametrize('process', PROCESSES)
@pytest.mark.parametrize('denoiser', DENOISERS)
def test_every_denoiser_takes_the_states_of_every_process(process, denoiser, tiny_graph):
    graph = training_graph(tiny_graph)
    process = make_process(process)
    # no dropout
    module = make_denoiser(denoiser, graph, process, 4, num_layers=1, rank=3, channels=8).eval()
    rows = SparseRows.from_dense(torch.tensor([[1, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]]))
    t = torch.tensor([0, 4])
    out = module(
        process.diffuse(rows, t, process.rates(rows)),
        t,
        ItemViews(torch.randn(7, 8), 2, torch.rand(7)),
    )
    assert out.shape == (2, 7) and bool(torch.isfinite(out).all())


def test_names():
    assert isinstance(make_process('flip'), FlipProcess) and isinstance(
        make_process('gaussian'), GaussianProcess
    )
    with pytest.raises(ConfigError, match="process: got 'noise', accepted are 'flip', 'gaussian'"):
        make_process('noise')
    with pytest.raises(ConfigError, match="denoiser: got 'unet', accepted are 'linear'"):
        make_denoiser('unet', None, None, 4)


@pytest.mark.parametrize('name', PROCESSES)
def test_arguments_reach_the_process(name):
    rows = SparseRows.from_dense(torch.tensor([[1, 0, 1]]))
    noise = [
        make_process(name, num_steps=2, scale=scale, weighting='equal') for scale in (1.0, 0.5)
    ]
    assert all(process.num_steps == 2 for process in noise)
    weights = [process.step_weight(rows, process.rates(rows)) for process in noise]
    assert torch.equal(*weights) and weights[0].tolist() == [1.0, 1.0]
    count = torch.tensor([1.0, 0.0, 1.0])
    variance = [process.estimate_variance(count, 1, process.rates(rows)) for process in noise]
    assert bool((variance[0] > variance[1]).all())


def test_arguments_reach_the_denoiser(tiny_graph):
    graph, process = training_graph(tiny_graph), make_process('flip')
    rows, t = SparseRows.from_dense(torch.ones(1, 7)), torch.zeros(1, dtype=torch.long)
    views = ItemViews(torch.randn(7, 8), 2, torch.rand(7))
    assert make_denoiser('linear', graph, process, 4, rank=3).query(rows, t, views).size(1) == 3
    perceptron = make_denoiser('perceptron', graph, process, 4, channels=8)
    assert {8, 7} <= {size for parameter in perceptron.parameters() for size in parameter.shape}
    counts = [
        sum(
            p.numel()
            for p in make_denoiser(name, graph, process, 4, num_layers=layers).parameters()
        )
        for name in ('tied', 'transformer')
        for layers in (1, 2)
    ]
    assert counts[0] < counts[1] and counts[2] < counts[3]
