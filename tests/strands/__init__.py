"""Concurrency: branches side by side, and what the log makes of them."""
