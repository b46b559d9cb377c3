"""`python -m user_service serve` and `python -m user_service migrate`."""

from millrace.runtime.early_stop import obey_sigterm

if __name__ == "__main__":
    obey_sigterm()
    from user_service.app import service

    service.cli()()
