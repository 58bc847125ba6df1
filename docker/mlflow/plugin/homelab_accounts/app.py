"""The app: basic auth asks who it is, and then this asks what the login may.

MLflow serves most routes by Flask and some by FastAPI, which Flask's hooks never see; so there is a gate in each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
from flask import Response, request
from mlflow.exceptions import MlflowException
from mlflow.server import auth
from mlflow.server.handlers import catch_mlflow_exception
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match, Mount

from homelab_accounts import conditions
from homelab_accounts.rights import PUBLIC, login_of, may, route

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ARTIFACTS = "2.0/mlflow-artifacts/artifacts/<artifact_path>"
ARTIFACT = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/(.*)", re.DOTALL)


def create_app() -> Any:
    """MLflow's app with basic auth and the rights of each login, for `mlflow server --app-name homelab-accounts`."""
    app = auth.create_app()
    if not hasattr(app, "user_middleware"):
        raise MlflowException("homelab-accounts needs uvicorn: start the server without gunicorn and waitress")
    # Both come first: basic auth's own checks answer 404 for what is not there, and then nothing is refused.
    auth.app.before_request_funcs[None].insert(0, _flask_gate)
    app.user_middleware.insert(0, Middleware(FastAPIGate, routes=app.routes))
    return app


@catch_mlflow_exception
def _flask_gate() -> Response | None:
    if request.url_rule is None:
        return None
    name = route(request.method, request.url_rule.rule)
    if name in PUBLIC:
        return None
    authorization = auth.authenticate_request()
    if isinstance(authorization, Response):
        return authorization
    is_admin = _allowed(str(authorization.username), name)
    conditions.check(login_of(str(authorization.username)), name, is_admin=is_admin)
    return None


def _allowed(username: str, name: str) -> bool:
    """Whether the user is an administrator.

    Raises:
        MlflowException: it is none, and may not use the route.
    """
    is_admin = bool(auth.store.get_user(username).is_admin)
    if not is_admin and not may(username, name):
        raise conditions.refuse(f"the login {username} may not use {name}")
    return is_admin


class FastAPIGate:
    """The gate before the routes that FastAPI serves itself; all others are Flask's."""

    def __init__(self, app: Any, routes: list[Any]) -> None:
        self._app = app
        self._native = [item for item in routes if not isinstance(item, Mount)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http" and (refusal := await self._refusal(scope)):
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope) -> JSONResponse | None:
        # The two share paths: a method that FastAPI does not serve is Flask's.
        if not any(item.matches(dict(scope))[0] == Match.FULL for item in self._native):
            return None
        try:
            known = await anyio.to_thread.run_sync(_check, Request(scope))
        except MlflowException as error:
            return JSONResponse(json.loads(error.serialize_as_json()), error.get_http_status_code())
        return None if known else JSONResponse({}, 401, {"WWW-Authenticate": 'Basic realm="mlflow"'})


def _check(request: Request) -> bool:
    """Whether a request to a route of FastAPI comes from a known login, where it needs one.

    Raises:
        MlflowException: the login may not do this.
    """
    method, path = request.scope["method"], request.scope["path"]
    artifact = ARTIFACT.fullmatch(path)
    name = f"{method} {ARTIFACTS}" if artifact else route(method, path)
    if name in PUBLIC:
        return True
    user = auth._authenticate_fastapi_request(request)
    if user is None:
        return False
    is_admin = _allowed(user.username, name)
    if artifact:
        conditions.check_artifact(login_of(user.username), method, artifact[1], is_admin=is_admin)
    return True
