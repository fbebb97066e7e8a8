r"""Parts for node features per modality: encoders, fusion, item graphs."""
