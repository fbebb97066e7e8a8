import pytest
import torch

from genrec_pyg.nn.modality.encoder import BatchNorm, Gate, ModalityEncoder, ProjectionBlock


def test_encoder_equals_plain_formula_in_evaluation_mode():
    encoder = ModalityEncoder(6, 4).eval()
    for block in (encoder.input, encoder.residual):
        block.norm.running_mean.normal_()
        block.norm.running_var.uniform_(0.5, 2)
    x, rho = torch.randn(9, 6), torch.tensor(0.7)

    def block(module, z):
        z = module.linear(z)
        z = (z - module.norm.running_mean) / (module.norm.running_var + module.norm.eps).sqrt()
        return torch.where(z > 0, z, 0.2 * z)

    h = block(encoder.input, x)
    assert torch.allclose(encoder(x, rho), rho * h + block(encoder.residual, h), atol=1e-6)
    assert torch.equal(encoder(x), encoder(x, torch.ones(())))


def test_constant_shift_of_the_features_changes_nothing():
    encoder = ModalityEncoder(6, 4, dropout=0.0).double().train()
    x = torch.randn(50, 6, dtype=torch.float64)
    assert torch.allclose(encoder(x), encoder(x - 123.0), atol=1e-8)


def test_dropout_only_in_training():
    encoder = ModalityEncoder(6, 4, dropout=0.5)
    x = torch.randn(20, 6)
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))
    encoder.train()
    assert not torch.equal(encoder(x), encoder(x))


def test_gate_lies_between_zero_and_one_and_follows_its_formula():
    gate = Gate(4).eval()
    z = torch.randn(8, 4)
    out = gate(z)
    assert bool(((out > 0) & (out < 1)).all())
    assert torch.allclose(
        out, torch.sigmoid(gate.linear(z) / (1 + gate.norm.eps) ** 0.5), atol=1e-6
    )


def test_without_batch_normalization_the_rows_do_not_meet():
    x = torch.randn(9, 6)
    plain = ProjectionBlock(6, 4, dropout=0.0, negative_slope=1.0, batch_norm=False)
    assert torch.equal(plain(x), plain.linear(x))
    bilinear = ProjectionBlock(6, 4, dropout=0.0, batch_norm=False, bias=False)
    product = x @ bilinear.linear.weight.t()
    assert torch.allclose(bilinear(x), torch.where(product > 0, product, 0.2 * product))
    gate = Gate(6, batch_norm=False)
    assert torch.allclose(gate(x), torch.sigmoid(gate.linear(x)))
    for module in (plain, bilinear, gate):
        assert torch.allclose(module(x)[:1], module(x[:1]), atol=1e-6) and not list(
            module.buffers()
        )
        before = module.linear.weight.clone()
        module.reset_parameters()
        assert not torch.equal(before, module.linear.weight)


@pytest.mark.parametrize('module', [ModalityEncoder(30, 20), Gate(20)])
def test_weights_start_xavier_uniform(module):
    linear = module.input.linear if isinstance(module, ModalityEncoder) else module.linear
    bound = (6 / (linear.in_features + linear.out_features)) ** 0.5
    largest = float(linear.weight.abs().max())
    assert 0.8 * bound < largest <= bound


@pytest.mark.parametrize('num_rows', [0, 1])
def test_batch_norm_takes_a_row_by_its_running_statistics(num_rows):
    """(3 - 1) / sqrt(4) = 1, times the weight 5, plus the bias 2."""
    norm = BatchNorm(3)
    with torch.no_grad():
        norm.running_mean.fill_(1.0)
        norm.running_var.fill_(4.0)
        norm.weight.fill_(5.0)
        norm.bias.fill_(2.0)
    out = norm.train()(torch.full((num_rows, 3), 3.0))
    assert torch.allclose(out, torch.full((num_rows, 3), 7.0), atol=1e-4)
    assert bool((norm.running_mean == 1).all()) and bool((norm.running_var == 4).all())
    out.sum().backward()
    assert bool((norm.bias.grad == num_rows).all())


def test_batch_norm_of_several_rows_is_that_of_torch():
    x, norm, plain = torch.randn(5, 3), BatchNorm(3), torch.nn.BatchNorm1d(3)
    assert torch.equal(norm(x), plain(x)) and torch.equal(norm.running_var, plain.running_var)
    assert torch.equal(norm.eval()(x), plain.eval()(x))
