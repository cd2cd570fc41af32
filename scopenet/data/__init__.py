"""Data sets prepared without a download site, and their registration."""
