"""The command line: `trainable run data.csv`, and what else can be done with sessions."""

from trainable.cli.app import app, main

__all__ = ["app", "main"]
