"""Running lists of configs over data sets and seeds, and the tables made from it."""
