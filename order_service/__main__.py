"""`python -m order_service serve` and `python -m order_service migrate`."""

from millrace.runtime.early_stop import obey_sigterm

if __name__ == "__main__":
    obey_sigterm()
    from order_service.app import service

    service.cli()()
