r"""Readers of files from outside and downloads."""
