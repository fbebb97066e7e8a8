r"""Models of interactions alone."""
