"""`millrace generate`: whole files and marked parts of files, from the manifests."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.local.home import REPOSITORY
from infra.topology import SERVICES
from millrace.manifest import ManifestError
from millrace.scaffold import command
from millrace.scaffold.blocks import BlockError, replace_blocks
from millrace.scaffold.generate import FRAMEWORK, GenerateError, generate
from millrace.scaffold.project import ProjectError, disagreements, project_root
from tests.unit.test_manifests import ORDER, STOCK, write

MARKED = """by hand
  # generated: names
  old
  # end of generated: names
by hand, too
"""
TEMPLATE = "{% block names %}\n{% for one in services %}\n- {{ one.name }}\n{% endfor %}\n{% endblock %}\n"


def with_events(root: Path, *topics: str) -> None:
    (root / "schemas" / "events").mkdir(parents=True)
    for topic in topics:
        (root / "schemas" / "events" / f"{topic}.py").touch()


def project(root: Path, *, marked: str = MARKED, template: str = TEMPLATE) -> Path:
    write(root, order=ORDER, stock=STOCK)
    with_events(root, "orders", "stocks")
    (root / "list.yaml").write_text(marked)
    (root / "templates" / "each_service").mkdir(parents=True)
    (root / "templates" / "list.yaml.jinja").write_text(template)
    (root / "templates" / "each_service" / "PORT.jinja").write_text("{{ service.ports.http }}\n")
    return root


def test_a_marked_part_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    root = project(tmp_path)
    generate(root, [root / "templates"])
    assert (root / "list.yaml").read_text() == MARKED.replace("  old\n", "  - order\n  - stock\n")


def test_a_file_per_service(tmp_path: Path) -> None:
    root = project(tmp_path)
    generate(root, [root / "templates"])
    assert [(root / f"{name}_service" / "PORT").read_text() for name in ("order", "stock")] == [
        "8001\n",
        "8002\n",
    ]


def test_a_second_run_finds_everything_as_it_should_be(tmp_path: Path) -> None:
    root = project(tmp_path)
    assert not any(one.current for one in generate(root, [root / "templates", FRAMEWORK]))
    assert all(one.current for one in generate(root, [root / "templates", FRAMEWORK], write=False))


def test_a_service_that_is_gone_leaves_the_marked_part(tmp_path: Path) -> None:
    root = project(tmp_path)
    generate(root, [root / "templates"])
    (root / "stock_service" / "service.toml").unlink()
    generate(root, [root / "templates"])
    assert "stock" not in (root / "list.yaml").read_text()


@pytest.mark.parametrize(
    ("marked", "template", "said"),
    [
        (
            "nothing marked\n",
            TEMPLATE,
            "no line '# generated: names' says where the template's block belongs",
        ),
        (
            MARKED.replace("end of", "end"),
            TEMPLATE,
            "'# generated: names' has no line '# end of generated: names'",
        ),
        (
            MARKED + MARKED.replace("names", "ports"),
            TEMPLATE,
            "'# generated: ports': the template has no such block",
        ),
        (MARKED, TEMPLATE.replace("one.name", "one.nam"), "has no attribute 'nam'"),
        (MARKED, TEMPLATE.replace("{% endfor %}", ""), "Unexpected end of template"),
    ],
)
def test_a_mistake_names_the_template_and_writes_nothing(
    tmp_path: Path, marked: str, template: str, said: str
) -> None:
    root = project(tmp_path, marked=marked, template=template)
    with pytest.raises(GenerateError) as error:
        generate(root, [root / "templates"])
    assert "list.yaml.jinja: " in str(error.value)
    assert said in str(error.value).replace("\n", " ") or "nknown tag" in str(error.value)
    assert (root / "list.yaml").read_text() == marked
    assert not (root / "order_service" / "PORT").exists()


def test_a_part_may_occur_twice_and_may_be_empty() -> None:
    twice = replace_blocks(MARKED + MARKED, {"names": "new\n"})
    assert twice == (MARKED + MARKED).replace("old", "new")
    assert replace_blocks(MARKED, {"names": "\n"}) == MARKED.replace("  old\n", "")
    with pytest.raises(BlockError):
        replace_blocks(MARKED, {})


def test_check_names_what_is_out_of_date_and_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, order=ORDER)
    with_events(tmp_path, "orders")
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(command.app, ["generate", "--check"])
    assert (run.exit_code, "schemas/topics.py is out of date: run make generate" in run.stderr) == (1, True)
    assert not (tmp_path / "schemas" / "topics.py").exists()
    assert CliRunner().invoke(command.app, ["generate"]).exit_code == 0
    assert CliRunner().invoke(command.app, ["generate"]).stdout == "2 generated files are up to date\n"


def test_what_is_committed_is_what_the_manifests_say() -> None:
    made = generate(REPOSITORY, [FRAMEWORK, REPOSITORY / command.PROJECT], write=False)
    assert len(made) > 10
    assert [str(one.path) for one in made if not one.current] == []


def test_a_topic_without_events_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path, order=ORDER.replace("orders.events", "oders.events"))
    with_events(tmp_path, "orders")
    with pytest.raises(
        ManifestError, match=r"^order_service/service.toml: topic = \"oders.events\" wants .*oders.py"
    ):
        generate(tmp_path, [FRAMEWORK])
    assert not (tmp_path / "schemas" / "topics.py").exists()


PROTOCOL = """syntax = "proto3";
package shop.{0}.v1;
service Stock {{
  rpc GetStock(Nothing) returns (Nothing);
  rpc GetShelf(Nothing) returns (Nothing);
}}
message Nothing {{}}
"""


def with_protocol(root: Path, callers: str, name: str = "stocks") -> Path:
    write(root, order='asks = ["stock"]\n' + ORDER, stock=f"{STOCK}\n[callers]\n{callers}")
    with_events(root, "orders", "stocks")
    (root / "schemas" / "grpc").mkdir()
    (root / "schemas" / "grpc" / f"{name}.proto").write_text(PROTOCOL.format(name))
    return root


def test_who_may_call_what_stands_beside_the_protocol(tmp_path: Path) -> None:
    generate(with_protocol(tmp_path, 'GetStock = ["order"]\nGetShelf = []\n'), [FRAMEWORK])
    table = (tmp_path / "schemas" / "grpc" / "callers.py").read_text()
    assert '    "/shop.stocks.v1.Stock/GetStock": frozenset({"order"}),\n' in table
    assert '    "/shop.stocks.v1.Stock/GetShelf": frozenset(),\n' in table, "nobody: it is refused to all"


@pytest.mark.parametrize(
    ("callers", "name", "said"),
    [
        (
            'GetStock = ["order"]',
            "stocks",
            "stock_service/service.toml: callers.GetShelf: the line is missing that says who may call it",
        ),
        (
            'GetStock = ["order"]\nGetShelf = []\nGetPrice = []',
            "stocks",
            "stock_service/service.toml: callers.GetPrice: schemas/grpc/stocks.proto has no such method",
        ),
        (
            'GetStock = ["order"]',
            "shelves",
            "schemas/grpc/shelves.proto: no service has the topic shelves.events: whose methods are these?",
        ),
    ],
)
def test_a_method_without_a_row_fails_before_anything_is_written(
    tmp_path: Path, callers: str, name: str, said: str
) -> None:
    with pytest.raises(ManifestError) as error:
        generate(with_protocol(tmp_path, callers, name), [FRAMEWORK])
    assert said in error.value.lines
    assert not (tmp_path / "schemas" / "topics.py").exists()


def test_inside_of_a_project_nothing_is_begun(tmp_path: Path) -> None:
    write(tmp_path, order=ORDER)
    (tmp_path / "docs").mkdir()
    with pytest.raises(ProjectError, match=f"the project begins in {tmp_path}: give the command there"):
        project_root(tmp_path / "docs")
    assert project_root(tmp_path) == tmp_path


def test_what_the_services_declare_is_what_their_manifests_say() -> None:
    assert list(disagreements(REPOSITORY)) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            'name = "catalogue"',
            'name = "catalog"',
            "read_models: it says catalog (hears inventory.events), orders",
        ),
        ('streams = ["order-"]', 'streams = ["orders-"]', "streams: it says orders-, app.py declares order-"),
        (
            'name = "saga"',
            'name = "sage"',
            "reactions: it says order-service.sage (hears inventory.events), app.py",
        ),
    ],
)
def test_a_manifest_that_says_otherwise_than_the_service_is_named(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    for service in SERVICES:
        text = (REPOSITORY / service.package / "service.toml").read_text()
        write(tmp_path, **{service.name: text.replace(before, after)})
    (line,) = disagreements(tmp_path)
    assert line.startswith(f"order_service/service.toml: {said}")
