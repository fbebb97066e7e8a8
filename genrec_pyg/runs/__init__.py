r"""Runs on disk: their folder, their checkpoints, the history of their epochs, and training that
goes on from one.
"""
