r"""Which model, part or setting is better, and by how much."""
