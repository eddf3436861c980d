"""Stores: where a runtime keeps its runs."""
