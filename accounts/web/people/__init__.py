"""Pages about the people who use the portal: their own settings, and for admins all people and teams."""
