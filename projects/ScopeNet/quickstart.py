#!/usr/bin/env python3
"""Prepare Digits, train a small ScopeNet on it, evaluate it and draw what it finds (make demo)."""

from scopenet.demo import main

if __name__ == "__main__":
    main()
