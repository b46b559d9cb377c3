"""A local SMTP server with a mailbox to look into, for development and tests: `python -m infra.mailbox
--help`."""
