"""Trainable in Jupyter: what translates between the library and a notebook or a browser."""
