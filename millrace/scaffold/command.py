"""The `millrace` command: what a developer of services needs, and whatever else is installed beside the
framework.

A package adds its commands by the entry point group `millrace.commands`: a function that gets the typer
application. The local stack does it that way, so the command exists without it.
"""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from millrace.runtime.terminal import echo, echo_lines, run_command_line
from millrace.scaffold.generate import FRAMEWORK, generate
from millrace.scaffold.new_service import new_service
from millrace.scaffold.project import disagreements, project_root

GROUP = "millrace.commands"
PROJECT = Path("infra") / "templates"
STALE = 1  # exit code of --check

app = typer.Typer(
    help="Services on an event store and Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def commands() -> None:
    """Even a single command is called by its name."""


@app.command(name="generate")
def generate_(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a file is out of date.")
    ] = False,
) -> None:
    """Write what follows from each service.toml: topics, compose.yaml, Dockerfiles, pyproject's lists."""
    root = project_root(Path.cwd())
    made = generate(root, [FRAMEWORK, root / PROJECT], write=not check)
    stale = [str(one.path.relative_to(root)) for one in made if not one.current]
    if check and (
        wrong := [f"{name} is out of date: run make generate" for name in stale] or [*disagreements(root)]
    ):
        echo_lines("\n".join(wrong), err=True)
        raise typer.Exit(STALE)
    echo(f"wrote {', '.join(stale)}" if stale else f"{len(made)} generated files are up to date")


new = typer.Typer(help="Make something new from a template.", no_args_is_help=True)
app.add_typer(new, name="new")


@new.callback()
def things() -> None:
    """Even a single one is called by its name."""


@new.command(name="service")
def new_service_(
    name: Annotated[str, typer.Argument(help="One lower-case word, such as payment.", show_default=False)],
    description: Annotated[
        str, typer.Option("--description", help="One sentence about it.", show_default=False)
    ] = "",
    http: Annotated[bool, typer.Option("--http/--no-http", help="An HTTP API.")] = True,
    grpc: Annotated[bool, typer.Option("--grpc/--no-grpc", help="Queries for other services.")] = True,
    hears: Annotated[
        list[str] | None,
        typer.Option(
            "--hears",
            help="A topic whose events it reacts to, or TOPIC:EVENT. May be repeated.",
            show_default=False,
        ),
    ] = None,
    template: Annotated[
        str,
        typer.Option(help="The address of a git repository with a template of your own.", show_default=False),
    ] = "",
) -> None:
    """Write the first version of a service: event, command, read model, doors, audit, tests.

    [bold]millrace new service payment --hears orders.events:OrderConfirmed[/bold]
    """
    root = project_root(Path.cwd())
    made = new_service(
        root, name, description=description, http=http, grpc=grpc, hears=hears or (), template=template
    )
    lines = sum(len(file.read_text().splitlines()) for file in made if file.suffix in {".py", ".toml"})
    echo_lines("\n".join(f"  {file.relative_to(root)}" for file in made if file.stat().st_size))
    following = "make generate schemas lock" if (root / "Makefile").exists() else "millrace generate"
    echo(f"Created {name}_service: {len(made)} files, {lines} lines. Next: {following}")


def main() -> None:
    """Runs the command, with those that other packages add."""
    run_command_line(_with_plug_ins)


def _with_plug_ins() -> None:
    for plug_in in entry_points(group=GROUP):
        try:
            plug_in.load()(app)
        except ImportError as error:  # such as of topics that `generate` is about to write
            echo(f"without the commands of {plug_in.value.partition(':')[0]}: {error}", err=True)
    app()


if __name__ == "__main__":
    main()
