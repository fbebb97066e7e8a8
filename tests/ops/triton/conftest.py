from pathlib import Path

import pytest
from helpers.kernel_inputs import DEVICE

from genrec_pyg.ops import DEFAULT_BACKENDS
from genrec_pyg.ops.backends import triton_kernels


@pytest.fixture(autouse=True)
def triton_is_the_default(monkeypatch, triton_works):
    monkeypatch.setitem(DEFAULT_BACKENDS, DEVICE.type, 'triton')


@pytest.fixture(params=['rows', 'shares'])
def strategy(request, monkeypatch):
    """One program per row, or equal shares of rows and entries; a share of 8 cuts rows into
    several.
    """
    module = triton_kernels().spmm.__globals__
    monkeypatch.setitem(module, '_LONG_ROW', 10**9 if request.param == 'rows' else -1)
    monkeypatch.setitem(module, '_MIN_SHARE', 8)
    monkeypatch.setitem(module, '_SKEWED', {})
    return request.param


def pytest_collection_modifyitems(items):
    """The interpreter of triton takes a minute for all kernels."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)
