import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.training.device import resolve_device


def test_automatic_is_a_gpu_where_there_is_one(monkeypatch):
    for available, expected in ((True, 'cuda'), (False, 'cpu')):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda found=available: found)
        assert resolve_device('auto').type == expected


def test_names_of_no_device_are_refused():
    assert resolve_device('cpu') == torch.device('cpu')
    for name in ('gpu', 'cuda:97', ''):
        with pytest.raises(ConfigError, match=f"device: got '{name}', which is not available"):
            resolve_device(name)
