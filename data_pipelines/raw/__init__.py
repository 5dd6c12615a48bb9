"""Raw downloads: read, filtered, joined with their priors, written, and counted."""
