"""Losses as pure functions: tensors in, a scalar out, each with its source."""
