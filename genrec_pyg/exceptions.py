r"""Errors that the user can fix.

Every one carries a message that names the file, field or flag, its value and what is accepted. The
command lines print the message alone (no traceback unless ``--debug``) and map the class to an exit
code.
"""


class GenRecError(Exception):
    r"""Base class of all errors raised on purpose by this package (exit code 1)."""


class DataError(GenRecError, ValueError):
    r"""A file, feature matrix or graph that cannot be used as it is (exit code 1)."""


class ConfigError(GenRecError, ValueError):
    r"""A flag, configuration entry or argument outside its accepted range (exit code 2)."""


class CheckpointError(GenRecError, RuntimeError):
    r"""A checkpoint that is missing, damaged or belongs to another graph or model (exit code 1)."""


class OutputError(GenRecError, OSError):
    r"""A file, folder or stream that cannot be written (exit code 1)."""
