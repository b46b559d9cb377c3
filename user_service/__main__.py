"""`python -m user_service serve` and `python -m user_service migrate`."""

from chassis.early_stop import obey_sigterm

if __name__ == "__main__":
    obey_sigterm()
    from user_service.app import cli

    cli()()
