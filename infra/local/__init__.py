"""The local stack: every component as an ordinary process, without Docker and without root."""
