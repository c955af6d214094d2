"""Placement of many chains by columns: one column is one way to run one chain."""
