"""The course's models, one a file."""
