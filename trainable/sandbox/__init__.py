"""Where an agent's code runs."""
