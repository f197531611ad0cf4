"""Pages about the people who use the portal: their own settings."""
