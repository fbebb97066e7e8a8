r"""Models of interactions and item modalities."""
