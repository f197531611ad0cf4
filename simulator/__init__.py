"""A stand-in for the WKTeam server: same calls, same quirks, and phones that anybody can tap.

A process of its own (``python -m simulator``). README.md beside this file says what it
can do and how tests steer it.
"""
