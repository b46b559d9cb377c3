"""`python -m user_service serve` and `python -m user_service migrate`."""

from user_service.app import cli

if __name__ == "__main__":
    cli()()
