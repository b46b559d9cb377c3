"""`make mutants`: does a test turn red for each bug of the catalogue?"""

import random
from collections.abc import Sequence
from typing import Annotated

import typer

from infra.local.home import REPOSITORY
from tests.mutations.mutation import Mutation, load_catalogue
from tests.mutations.sandbox import MutationOutcome, Run, Sandbox, open_sandbox

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_VERDICTS = {
    MutationOutcome.FAILED: "killed",
    MutationOutcome.PASSED: "SURVIVED",
    MutationOutcome.BROKEN: "NOT TESTED",
}


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(help="Only these; see --list.")] = None,
    sample: Annotated[int, typer.Option(help="How many to draw when none is named.", min=1)] = 6,
    seed: Annotated[int, typer.Option(help="Which ones: the same seed draws the same.")] = 0,
    everything: Annotated[
        bool, typer.Option("--all", help="The whole catalogue (about 15 minutes).")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="Print names and promises, run nothing.")] = False,
) -> None:
    """Puts small bugs into a copy of the project, one at a time, and runs the tests that must turn red.

    Exit code 1: a bug survived, that is, a promise is held by no test. 2: the tests fail without any bug, or
    no such name.
    """
    catalogue = load_catalogue()
    if listed:
        for one in catalogue:
            typer.echo(f"{one.name}\n    {one.promise}")
        return
    chosen = _chosen(catalogue, names or [], len(catalogue) if everything else sample, seed)
    with open_sandbox(REPOSITORY) as sandbox:
        _require_sound(sandbox, chosen)
        runs = [_tried(sandbox, one, f"{n}/{len(chosen)}") for n, one in enumerate(chosen, 1)]
    alive = [
        one.name for one, run in zip(chosen, runs, strict=True) if run.outcome is not MutationOutcome.FAILED
    ]
    typer.echo(f"{len(chosen) - len(alive)} of {len(chosen)} bugs were noticed by their tests.")
    if alive:
        typer.echo(f"Write a test, or correct the catalogue: {', '.join(alive)}")
        raise typer.Exit(1)


def _chosen(catalogue: Sequence[Mutation], names: Sequence[str], count: int, seed: int) -> list[Mutation]:
    by_name = {one.name: one for one in catalogue}
    if unknown := sorted(set(names) - set(by_name)):
        typer.echo(f"no mutation is named {', '.join(unknown)}: --list shows all names", err=True)
        raise typer.Exit(2)
    if names:
        return [by_name[name] for name in names]
    drawn = random.Random(seed).sample(range(len(catalogue)), min(count, len(catalogue)))
    return [catalogue[n] for n in sorted(drawn)]


def _require_sound(sandbox: Sandbox, chosen: Sequence[Mutation]) -> None:
    """A test that fails in any case kills nothing."""
    tests = sorted({test for one in chosen for test in one.tests})
    typer.echo(f"Without any bug: {len(tests)} tests ...")
    run = sandbox.run(tests)
    if run.outcome is not MutationOutcome.PASSED:
        typer.echo(run.output)
        typer.echo("They have to pass without any bug first.", err=True)
        raise typer.Exit(2)


def _tried(sandbox: Sandbox, mutation: Mutation, count: str) -> Run:
    run = sandbox.run_with(mutation)
    typer.echo(f"{count} {_VERDICTS[run.outcome]:10} {mutation.name} ({run.seconds:.0f} s)")
    if run.outcome is not MutationOutcome.FAILED:
        typer.echo(f"    {mutation.promise}")
    if run.outcome is MutationOutcome.BROKEN:
        typer.echo(run.output)
    return run


if __name__ == "__main__":
    app()
