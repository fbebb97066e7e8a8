import pytest
import torch

from benchmarks.speed.gpu import timing
from benchmarks.speed.gpu.timing import measure, with_backend
from genrec_pyg.ops import DEFAULT_BACKENDS


def test_back_end_is_set_within_and_restored_after(monkeypatch):
    monkeypatch.delitem(DEFAULT_BACKENDS, 'meta', raising=False)
    device = torch.device('meta')
    assert with_backend(device, 'scatter', lambda: DEFAULT_BACKENDS['meta'])() == 'scatter'
    assert 'meta' not in DEFAULT_BACKENDS
    with pytest.raises(ZeroDivisionError):
        with_backend(torch.device('cpu'), 'scatter', lambda: 1 / 0)()
    assert DEFAULT_BACKENDS['cpu'] == 'csr'


def test_times_are_those_of_one_call(monkeypatch):
    calls = []

    def timer(candidates, repeats):
        for function in candidates.values():
            function()
        return {name: [0.5] * repeats for name in candidates}

    monkeypatch.setattr(timing, 'interleaved_seconds', timer)
    found = measure({'a': lambda: calls.append(None)}, torch.device('cpu'), repeats=3, calls=2)
    assert len(calls) == 2
    assert (
        found['device'] == {}
        and found['eager']['a']['count'] == 3
        and found['eager']['a']['median'] == 0.25
    )
