"""Suites and doubles for those who write a sandbox, an agent or a store of their own."""
