"""Decisions without clock or I/O: who may run, in which order, how many. Standard library only."""
