"""Simulator of the WKTeam server: the same calls, the same quirks, and phones that anyone can operate.

It is a process of its own (``python -m simulator``). README.md in this folder describes its functions and how
tests control it.
"""
