import platform
import subprocess
import sys

import pytest

from genrec_pyg.utils.memory import keep_freed_memory

#: MiB that stay resident after a block of 256 MiB has been freed.
KEPT = """
import re, sys
from pathlib import Path
import torch
from genrec_pyg.utils.memory import keep_freed_memory
def resident():
    return int(re.search(r'VmRSS:\\s+(\\d+) kB', Path('/proc/self/status').read_text()).group(1)) / 1024
if sys.argv[1] == 'keep':
    assert keep_freed_memory()
torch.ones(2 ** 20)
before = resident()
torch.ones(2 ** 26)
print(resident() - before)
"""  # noqa: E501


@pytest.mark.skipif(
    platform.libc_ver()[0] != 'glibc' or not sys.platform.startswith('linux'),
    reason='needs glibc on Linux',
)
def test_freed_memory_stays():
    kept = {}
    for mode in ('keep', 'default'):
        done = subprocess.run(
            [sys.executable, '-c', KEPT, mode], check=True, capture_output=True, text=True
        )
        kept[mode] = float(done.stdout)
    assert kept['keep'] > 200 > 50 > kept['default']


def test_other_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, 'libc_ver', lambda: ('', ''))
    assert keep_freed_memory() is False


def test_settings_of_the_environment_are_left_alone(monkeypatch):
    monkeypatch.setenv('MALLOC_MMAP_MAX_', '65536')
    assert keep_freed_memory() is False
