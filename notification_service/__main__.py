"""`python -m notification_service serve` and `python -m notification_service migrate`."""

from millrace.runtime.early_stop import obey_sigterm

if __name__ == "__main__":
    obey_sigterm()
    from notification_service.app import service

    service.cli()()
