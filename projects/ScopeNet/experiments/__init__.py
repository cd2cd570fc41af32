"""Run lists of configs over data sets and seeds, and make tables of the results."""
