"""A generated service takes over what a later version of its template changes, and keeps what its owners
did."""

import shutil
import subprocess
from pathlib import Path

from copier import run_update

from millrace.scaffold.new_service import TEMPLATE, new_service


def git(repository: Path, *arguments: str) -> None:
    """A git command with an author of its own."""
    author = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *author, *arguments], cwd=repository, check=True, capture_output=True)


def commit(repository: Path, tag: str) -> None:
    git(repository, "add", "--all")
    git(repository, "commit", "--message", tag)
    git(repository, "tag", tag)


def test_a_later_template_comes_into_a_service_that_was_changed_by_hand(tmp_path: Path) -> None:
    template, project = tmp_path / "template", tmp_path / "project"
    shutil.copytree(TEMPLATE, template)
    project.mkdir()
    for repository in (template, project):
        git(repository, "init", "--quiet")
    commit(template, "v1.0.0")
    new_service(project, "payment", grpc=False, template=str(template))
    domain = project / "payment_service" / "domain.py"
    domain.write_text(
        domain.read_text().replace('subject: str = ""', 'subject: str = ""\n    paid: bool = False')
    )
    commit(project, "by-hand")

    folder = template / "template" / "{{ name }}_service"
    for file, before, after in (
        ("domain.py.jinja", "pure, no I/O", "pure, and says so"),
        ("audit.py.jinja", "How many there are.", "How many were opened."),
    ):
        text = (folder / file).read_text()
        assert before in text
        (folder / file).write_text(text.replace(before, after))
    commit(template, "v2.0.0")
    answers = "payment_service/.copier-answers.yml"
    run_update(project, answers_file=answers, defaults=True, overwrite=True, quiet=True)

    assert "paid: bool = False" in domain.read_text()
    assert "pure, and says so" in domain.read_text()
    assert "<<<<<<<" not in domain.read_text()
    assert "How many were opened." in (project / "payment_service" / "audit.py").read_text()
    assert "_commit: v2.0.0" in (project / answers).read_text()
