"""What lets a person in, beside the password."""
