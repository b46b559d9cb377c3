"""`python -m inventory_service serve` and `python -m inventory_service migrate`."""

from inventory_service.app import cli

if __name__ == "__main__":
    cli()()
