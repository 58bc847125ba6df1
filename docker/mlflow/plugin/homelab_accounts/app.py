"""The app: basic auth asks who it is, and then this asks what the login may.

MLflow serves most routes by Flask and some by FastAPI, which Flask's hooks never see; so there is a gate in each.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
from flask import Response, g, request
from homelab_accounts import conditions
from homelab_accounts.rights import PUBLIC, login_of, may, route
from mlflow.exceptions import MlflowException
from mlflow.server import auth
from mlflow.server.handlers import catch_mlflow_exception
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match, Mount

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ARTIFACT = "2.0/mlflow-artifacts/artifacts/<artifact_path>"


def create_app() -> Any:
    """MLflow's app with basic auth and the rights of each login, for `mlflow server --app-name homelab-accounts`."""
    app = auth.create_app()
    auth.app.before_request(_flask_gate)
    if not hasattr(app, "user_middleware"):
        raise MlflowException("homelab-accounts needs uvicorn: start the server without gunicorn and waitress")
    # The last one is the innermost: basic auth has asked for the login before.
    app.user_middleware.append(Middleware(FastAPIGate, routes=app.routes))
    return app


@catch_mlflow_exception
def _flask_gate() -> Response | None:
    if request.url_rule is None:
        return None
    name = route(request.method, request.url_rule.rule)
    if name in PUBLIC or request.method == "OPTIONS":
        return None
    username = g.get("mlflow_authenticated_user")
    is_admin = _allowed(username, name)
    conditions.check(login_of(username), name, is_admin=is_admin)
    return None


def _allowed(username: str | None, name: str) -> bool:
    """Whether the user is an administrator.

    Raises:
        MlflowException: it is none, and may not use the route.
    """
    if not username:
        raise conditions.refuse("basic auth knows no login for this route")
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
            content = json.loads(refusal.serialize_as_json())
            await JSONResponse(content, refusal.get_http_status_code())(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope) -> MlflowException | None:
        # MLflow's routes and Flask's share paths: a method that FastAPI does not serve is Flask's.
        if not any(item.matches(dict(scope))[0] == Match.FULL for item in self._native):
            return None
        username = getattr(Request(scope).state, "username", None)
        try:
            await anyio.to_thread.run_sync(self._check, username, scope["method"], scope["path"])
        except MlflowException as error:
            return error
        return None

    def _check(self, username: str | None, method: str, path: str) -> None:
        name = route(method, path)
        if name in PUBLIC:
            return
        folder = f"{ARTIFACT.partition('<')[0]}"
        below = name.partition(" ")[2].removeprefix(folder)
        is_artifact = name.partition(" ")[2].startswith(folder)
        is_admin = _allowed(username, route(method, ARTIFACT) if is_artifact else name)
        if is_artifact:
            conditions.check_artifact(login_of(str(username)), method, below, is_admin=is_admin)
