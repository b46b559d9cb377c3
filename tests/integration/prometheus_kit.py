"""A real Prometheus for a test: the configuration of infra/prometheus, asked of the test's ports and more
often."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from infra.local.home import REPOSITORY
from infra.local.ports import free_ports
from tests.support import eventually

CONFIG = REPOSITORY / "infra" / "prometheus" / "local.yml"
INTERVAL = "500ms"


class Prometheus:
    """What a running server answers."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of its API. Raises AssertionError, with what it says, for any other answer."""
        answer = await self._http.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression has now."""
        samples: list[dict[str, Any]] = (await self.ask("query", query=expression))["result"]
        return samples

    async def is_ready(self) -> bool:
        try:
            return (await self._http.get("/-/ready")).status_code == 200
        except httpx.TransportError:
            return False


@asynccontextmanager
async def prometheus_of(program: str, folder: Path, targets: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """Runs it until the end. `targets`: host and port of each job of the configuration."""
    (port,) = free_ports(1)
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(configuration(targets)))
    argv = (
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*argv, stdout=log, stderr=asyncio.subprocess.STDOUT)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            server = Prometheus(http)
            await eventually(server.is_ready, within=30, what=f"Prometheus is ready: {config}")
            yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 15)


def configuration(targets: Mapping[str, str]) -> dict[str, Any]:
    """The one in the repository, with its jobs and rules, for other addresses."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    assert {job["job_name"] for job in config["scrape_configs"]} == targets.keys()
    config["global"] |= dict.fromkeys(config["global"], INTERVAL)
    config["rule_files"] = [str(CONFIG.parent / file) for file in config["rule_files"]]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    return config
