r"""Time and memory of larger graphs and of several processes."""
