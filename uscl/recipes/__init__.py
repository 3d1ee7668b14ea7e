"""Sizes and schedules of a run, as YAML package data: demo for minutes on a laptop, paper for the paper's own."""
