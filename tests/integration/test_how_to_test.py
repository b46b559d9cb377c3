"""The examples of docs/how-to/test-a-service.md, run as a project outside of this repository runs them."""

import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT, create_subprocess_exec
from pathlib import Path

from infra.local.home import REPOSITORY
from infra.testing import KafkaServer, PostgresServer
from tests.docs import ROOT, python_blocks

PAGE = ROOT / "docs" / "how-to" / "test-a-service.md"


async def test_the_examples_pass_with_the_plugin(
    postgres: PostgresServer, kafka: KafkaServer, tmp_path: Path
) -> None:
    conftest, *examples = python_blocks(PAGE)
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    (tmp_path / "test_page.py").write_text("\n".join(examples))
    ran = await create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", str(tmp_path)),
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            "MILLRACE_TEST_POSTGRES": postgres.superuser_url(),
            "MILLRACE_TEST_KAFKA": kafka.bootstrap_servers,
        },
        stdout=PIPE,
        stderr=STDOUT,
    )
    out = (await ran.communicate())[0].decode()

    written = len(re.findall(r"^(?:async )?def test_", "\n".join(examples), re.MULTILINE))
    assert ran.returncode == 0, out
    assert f"{written} passed" in out


async def test_without_a_server_a_test_says_how_to_name_one(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(python_blocks(PAGE)[0])
    (tmp_path / "test_it.py").write_text("def test_it(kafka): ...\n")
    ran = await create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", str(tmp_path)),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        stdout=PIPE,
    )
    out = (await ran.communicate())[0].decode()

    assert ran.returncode == 1
    assert "MILLRACE_TEST_KAFKA is not set: it names a Kafka broker for tests, such as 127.0.0.1:9092" in out
