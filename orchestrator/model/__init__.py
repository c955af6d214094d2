"""Frozen data types of every stage; no behaviour beyond construction and text."""
