r"""Layers, losses and models."""
