"""`python -m order_service serve` and `python -m order_service migrate`."""

from order_service.app import cli

if __name__ == "__main__":
    cli()()
