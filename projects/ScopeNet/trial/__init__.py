"""A trial of one device, within ten minutes and on one page (docs/performance.md)."""
