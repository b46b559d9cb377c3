"""`python -m notification_service serve` and `python -m notification_service migrate`."""

from notification_service.app import cli

if __name__ == "__main__":
    cli()()
