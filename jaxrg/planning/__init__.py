"""What a program will ask of chips that are not here, read from its compiled text."""
