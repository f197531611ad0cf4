"""What people work with and what the portal keeps of them: saved views, scan runs."""
