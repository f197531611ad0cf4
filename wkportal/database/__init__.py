"""How a process connects to the database, and what pages say while it is unreachable."""
