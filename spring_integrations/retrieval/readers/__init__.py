"""Readers of corpus files, and the splitting of long texts into passages."""
