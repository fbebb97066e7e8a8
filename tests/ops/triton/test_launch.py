import importlib

import pytest
import torch
from helpers.kernel_inputs import DEVICE

from genrec_pyg.exceptions import ConfigError


@pytest.fixture
def launch(triton_works):
    return importlib.import_module('genrec_pyg.ops.triton.launch')


@pytest.mark.parametrize(
    'dtype,precision', [(torch.float32, 'ieee'), (torch.bfloat16, 'tf32'), (torch.float16, 'tf32')]
)
def test_products_round_only_where_torch_may(launch, dtype, precision):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision('highest')
        assert launch.dot_precision(dtype) == precision
        torch.set_float32_matmul_precision('high')
        assert launch.dot_precision(dtype) == 'tf32'
    finally:
        torch.set_float32_matmul_precision(before)


def test_tensors_of_the_cpu_need_the_interpreter(launch):
    compiled = object.__new__(launch.triton.runtime.JITFunction)
    with pytest.raises(ConfigError, match='accepted are CUDA devices'):
        launch.on_device_of(torch.ones(1), compiled)
    with launch.on_device_of(
        torch.ones(1, device=DEVICE), compiled if DEVICE.type == 'cuda' else object()
    ):
        pass


@pytest.mark.parametrize(
    'num_programs,num_blocks,parts',
    [
        (1, 1000, 512),
        (1, 7, 7),
        (100, 1000, 5),
        (512, 1000, 1),
        (513, 1000, 1),
        (3, 0, 1),
        (0, 4, 4),
    ],
)
def test_a_loop_is_cut_as_often_as_the_device_has_room(launch, num_programs, num_blocks, parts):
    assert launch.num_splits(num_programs, num_blocks) == parts
