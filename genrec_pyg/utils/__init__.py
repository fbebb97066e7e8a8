r"""Helpers without knowledge of recommendation: files, memory, precision, collectives, argument
checks.
"""
