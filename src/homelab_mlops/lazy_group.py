"""A command line that builds a command when it is asked for, and writes its help without Rich.

A command that is only listed needs no more than its name and the first sentence of its docstring. Building all of them,
loading Rich or loading Pydantic each takes longer than the rest of `homelab --help` or of a completion.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

# More than the first sentence of any docstring.
WHOLE = 1000


class LazyGroup(TyperGroup):
    """Lists the commands of several Typer apps, and builds the one that is named."""

    rooms: tuple[typer.Typer, ...] = ()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._builders: dict[str, Callable[[], Any]] = {}
        for room in self.rooms:
            for command in room.registered_commands:
                name = str(command.name or getattr(command.callback, "__name__", ""))
                alone = partial(typer.main.get_command, _alone(command))
                self._add(name, alone, inspect.getdoc(command.callback) or "", command)
            for group in room.registered_groups:
                app = cast(typer.Typer, group.typer_instance)
                for command in app.registered_commands:
                    command.cls = PlainCommand
                self._add(str(group.name), partial(typer.main.get_group, app), str(app.info.help), group)

    def _add(self, name: str, build: Callable[[], Any], text: str, info: Any) -> None:
        # Typer's placeholder stands for an option that nobody gave.
        panel = info.rich_help_panel if isinstance(info.rich_help_panel, str) else "Commands"
        self._builders[name] = build
        self.commands[name] = TyperCommand(name, help=text, hidden=info.hidden is True, rich_help_panel=panel)

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters of the group itself."""
        return _converted(super().get_params(ctx), ctx)

    def build(self, name: str) -> Any:
        """The command with all its parameters."""
        return self._builders[name]()

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the first of ``args`` names, and the others."""
        name, _, others = super().resolve_command(ctx, args)
        return name, self.build(name) if name else None, others

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """Writes the commands, a section for each of their panels."""
        listed = [cast(TyperCommand, command) for command in self.commands.values() if not command.hidden]
        _write_sections(formatter, [(one.rich_help_panel, one.name, one.get_short_help_str(WHOLE)) for one in listed])


class PlainCommand(TyperCommand):
    """A command whose help has a section for each panel of its options."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with the one for help."""
        return _converted(super().get_params(ctx), ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the parameters."""
        rows = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
                section = getattr(parameter, "rich_help_panel", None) or usual
                rows.append((section, record[0].replace("<list[str]>", "<str>"), record[1]))
        _write_sections(formatter, rows)


class _Conversion:
    """Converts a parameter as Typer does, but loads Pydantic only for a value that has to change."""

    def __init__(self, typers: Callable[[], Any]) -> None:
        self._typers = typers

    def __call__(self) -> _Conversion:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value; a text that stands for itself, and what nobody gave, at once."""
        described = param.type_descriptor
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        is_text = described.annotation is str or (
            get_origin(described.annotation) is Literal and value in described.choices
        )
        if is_text and type(value) is str and value.isascii() and not (param.multiple or param.nargs != 1):
            return value
        return self._typers().coerce(value, param=param, ctx=ctx)


def _converted(parameters: list[Any], ctx: Any) -> list[Any]:
    """The parameters, with a conversion that avoids Pydantic; without any while a shell completes a word."""
    for parameter in parameters:
        if ctx.resilient_parsing:
            parameter.process_value = lambda _ctx, value: value
        elif not isinstance(parameter.get_runtime_param, _Conversion):
            parameter.get_runtime_param = _Conversion(parameter.get_runtime_param)
    return parameters


def _alone(command: Any) -> typer.Typer:
    command.cls = PlainCommand
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.registered_commands = [command]
    return app


def _write_sections(formatter: Any, rows: list[tuple[Any, ...]]) -> None:
    for title in dict.fromkeys(row[0] for row in rows):
        with formatter.section(title):
            formatter.write_dl([row[1:] for row in rows if row[0] == title])
