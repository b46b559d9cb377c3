"""The page at /docs: the OpenAPI description, to read. It needs nothing from elsewhere."""

import base64
import hashlib
import re
from typing import Final

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

FILES: Final = "/static-offline-docs"
"""Where the files of Swagger UI are served."""

_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def render(title: str) -> HTMLResponse:
    """The page, beside /openapi.json."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=title,
        swagger_js_url=f"{FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{FILES}/swagger-ui.css",
        swagger_favicon_url=f"{FILES}/favicon.png",
        # No button that sends requests: they would go to the internal port, which has none of the routes.
        swagger_ui_parameters={"supportedSubmitMethods": []},
    )
    page.headers["Content-Security-Policy"] = _policy(bytes(page.body).decode())
    return page


def _policy(page: str) -> str:
    """Only what this server sends, and of the scripts in the page the one that starts Swagger UI."""
    hashes = [hashlib.sha256(script.encode()).digest() for script in _SCRIPT.findall(page)]
    scripts = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in hashes)
    return (
        f"default-src 'self'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
