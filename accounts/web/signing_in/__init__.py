"""Signing in: the password, the second step, and who needs one."""
