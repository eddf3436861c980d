"""The stores: each must pass one conformance suite, and do what the model of a store does."""
