"""What the portal keeps of its people: their saved views."""
