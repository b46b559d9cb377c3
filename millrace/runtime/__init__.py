"""What workers are made of, and the errors of commands."""
