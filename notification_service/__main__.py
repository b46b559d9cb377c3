"""`python -m notification_service serve` and `python -m notification_service migrate`."""

from chassis.early_stop import obey_sigterm

if __name__ == "__main__":
    obey_sigterm()
    from notification_service.app import cli

    cli()()
