"""Exporting trained detectors to other formats, verified on real images."""
