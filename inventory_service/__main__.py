"""`python -m inventory_service serve` and `python -m inventory_service migrate`."""

from millrace.runtime.early_stop import obey_sigterm

if __name__ == "__main__":
    obey_sigterm()
    from inventory_service.app import service

    service.cli()()
