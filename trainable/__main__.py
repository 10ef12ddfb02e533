"""Makes `python -m trainable` the same as `trainable`."""

from trainable.cli import main

main()
