r"""Kernels on a GPU."""
