"""What a test must not see of the environment it runs in."""

import os

PREFIXES = ("TRAINABLE_", "AWS_", "ANTHROPIC_", "CLAUDE_", "MODAL_", "S3_", "DATABASE_URL")


def private_names() -> list[str]:
    """Return the variables that are set here and would lead to accounts or sessions of the user."""
    return [name for name in os.environ if name.startswith(PREFIXES)]
