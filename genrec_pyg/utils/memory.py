r"""Memory settings of the process on the CPU."""

from __future__ import annotations

import ctypes
import os
import platform

#: Parameters of glibc's ``mallopt``, from ``malloc.h``.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    r"""Tells the C library to serve large blocks from its heap and to keep freed memory for the
    next ones.

    By default glibc maps a new region for every large block and trims its heap, so the temporaries
    of every full-graph pass begin with page faults;
    ``benchmarks/scale/growth.py --allocator default`` measures what that costs. The command lines
    call this at their start. The price: memory goes back to the system only in pieces of 2 GiB, and
    what lies between blocks in use is lost to larger ones. Where that is too much, set
    ``MALLOC_MMAP_MAX_=65536``, glibc's own default (with any of its variables in the environment
    nothing is changed here), and ``THP_MEM_ALLOC_ENABLE=1``, with which torch asks for huge pages:
    freed memory goes back at once and new pages cost a fraction. Another allocator (jemalloc,
    tcmalloc) is not touched.

    Returns:
        Whether the settings were accepted; always :obj:`False` where the C library is not glibc or
        the environment has settings of its own.
    """
    if platform.libc_ver()[0] != 'glibc' or any(name.startswith('MALLOC_') for name in os.environ):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(
        [mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1), mallopt(_M_TOP_PAD, 2**26)]
    )
