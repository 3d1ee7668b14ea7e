"""Measurements per case as pure functions, and how rows of cases become one number."""
