"""The foundational effects, one file a family."""
