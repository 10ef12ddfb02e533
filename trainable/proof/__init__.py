"""Checks that the host makes of what a stage delivered."""
