"""Demonstrations by people: what becomes of each, the page, the terminal, the loop."""
