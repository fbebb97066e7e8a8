import pytest
import torch
from helpers.content_graphs import TITLES, titled_items

from genrec_pyg.exceptions import ConfigError


@pytest.mark.parametrize('kind', ['bert', 'roberta'])
def test_rows_and_gradients_are_those_of_the_whole_encoder(kind, text_folder):
    torch.manual_seed(0)
    whole = titled_items(text_folder(kind), unfreeze=1, chunk_size=3).eval()
    kept = titled_items(text_folder(kind), unfreeze=1, chunk_size=3, keep_frozen=True).eval()
    kept.load_state_dict(whole.state_dict())  # names of what is trained are the same
    assert torch.allclose(kept(), whole(), atol=1e-6)
    assert torch.allclose(kept.new_rows(TITLES[2:5]), whole.new_rows(TITLES[2:5]), atol=1e-6)
    found = []
    for side in (whole, kept):
        side.rows(torch.tensor([0, 2, 10])).square().sum().backward()
        found.append({name: p.grad for name, p in side.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and len(found[0]) == 18
    assert all(torch.allclose(found[1][name], grad, atol=1e-6) for name, grad in found[0].items())


def test_lower_layers_run_once(text_folder):
    side = titled_items(text_folder('bert'), unfreeze=1, keep_frozen=True).train()
    lower = side.network._prefix._lower[1]
    lower.register_forward_pre_hook(lambda module, inputs: pytest.fail('a frozen layer ran again'))
    side.rows(torch.arange(11)).sum().backward()
    before = side.eval()()
    with torch.no_grad():
        for parameter in side.parameters():
            parameter.add_(1)
    side.reset_parameters()
    side.projection.load_state_dict(titled_items(text_folder('bert')).projection.state_dict())
    assert before.shape == side().shape and all(
        not name.startswith('network.encoder.model.embeddings') for name in side.state_dict()
    )


@pytest.mark.parametrize(
    'kind, unfreeze, message',
    [
        (
            'bert',
            'all',
            'but the first layer is trained; accepted is item_side.unfreeze up to 1 blocks',
        ),
        ('opt', 1, 'got True for OPTModel, accepted are text encoders of the kind of BERT'),
    ],
)
def test_encoders_without_frozen_lower_layers_are_refused(kind, unfreeze, message, text_folder):
    with pytest.raises(ConfigError, match=message):
        titled_items(text_folder(kind), unfreeze=unfreeze, keep_frozen=True)
