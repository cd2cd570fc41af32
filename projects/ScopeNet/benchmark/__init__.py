"""Time and memory of dense detectors side by side, whole and by part (docs/performance.md)."""
