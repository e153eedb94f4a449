"""For every variant documents that are one, and documents that are none with the place that is wrong."""

from typing import Any

from tests.fakes.everything_content import PNG, WAV

MP4 = "AAAAGGZ0eXBtcDQyAAAAAG1wNDJpc29t"
WEBP = "UklGRiQAAABXRUJQVlA4IA=="


def text(*texts: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": each} for each in texts]}


def structured(value: Any) -> dict[str, Any]:
    return {"content": [], "structuredContent": value}


def image(mime_type: str = "image/png", data: str = PNG) -> dict[str, Any]:
    return {"content": [{"type": "image", "mimeType": mime_type, "data": data}]}


def audio(mime_type: str = "audio/wav", data: str = WAV) -> dict[str, Any]:
    return {"content": [{"type": "audio", "mimeType": mime_type, "data": data}]}


def blob(mime_type: str, data: str) -> dict[str, Any]:
    return {"content": [{"type": "resource", "resource": {"uri": "x://1", "mimeType": mime_type, "blob": data}}]}


def link(mime_type: str, uri: str) -> dict[str, Any]:
    return {"content": [{"type": "resource_link", "name": "x", "mimeType": mime_type, "uri": uri}]}


TABLE = {"columns": ["a", {"name": "b", "type": "integer"}], "rows": [["x", 1], {"a": "y", "b": 2}, ["z", None]]}
LINE = {
    "chart": "line",
    "labels": ["mon", "tue"],
    "series": [{"name": "in", "data": [1, 2.5]}, {"name": "out", "data": [0, None]}],
}
PIE = {"chart": "pie", "labels": ["a", "b"], "series": [{"name": "share", "data": [1, 2]}]}
SCATTER = {"chart": "scatter", "series": [{"name": "points", "data": [[1, 2], [3, 4]]}]}
FORM = {
    "fields": [
        {"name": "who", "type": "text", "default": "ada"},
        {"name": "size", "type": "integer", "min": 1, "max": 9, "default": 3},
        {"name": "sort", "type": "select", "options": ["up", {"value": "down", "label": "Down"}], "default": "down"},
        {"name": "on", "type": "date", "default": "2026-11-23"},
    ],
    "submit": {"tool": "order"},
}
CARD = {
    "title": "Ada",
    "image": "https://example.com/ada.png",
    "fields": [{"label": "Born", "value": 1815}],
    "actions": [
        {"label": "Write", "url": "mailto:ada@example.com"},
        {"label": "Call", "tool": "call", "arguments": {}},
    ],
}
MESSAGE = {"role": "assistant", "text": "Done", "level": "success", "at": "2026-11-23T03:12:00Z"}


def dashboard(*panels: dict[str, Any]) -> dict[str, Any]:
    return structured({"title": "All", "panels": list(panels)})


def panel(name: str, kind: str, artifact: Any, **place: int) -> dict[str, Any]:
    return {"id": name, "kind": kind, "artifact": artifact, **place}


def form(**field: Any) -> dict[str, Any]:
    return structured({"fields": [{"name": "a", "type": "text", **field}]})


def card(**more: Any) -> dict[str, Any]:
    return structured({"title": "t", **more})


def message(**more: Any) -> dict[str, Any]:
    return structured({"role": "user", "text": "hi", **more})


def chart(kind: str, *data: list[Any], **more: Any) -> dict[str, Any]:
    series = [{"name": str(index), "data": each} for index, each in enumerate(data)]
    return structured({"chart": kind, "series": series, **more})


VALID: list[tuple[str, dict[str, Any]]] = [
    ("text", text("hello")),
    ("text", text("", "two")),
    ("text", {"content": [{"type": "resource", "resource": {"uri": "a://b", "text": "embedded"}}]}),
    ("table", structured(TABLE)),
    ("table", structured({"result": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]})),
    ("table", text('{"columns": ["a"], "rows": [[1]]}')),
    (
        "table",
        structured(
            {"columns": [{"name": "at", "type": "datetime"}], "rows": [["2026-11-23T03:12:00+01:00"]], "total": 9}
        ),
    ),
    ("list", structured({"items": ["a", 1, {"id": 1, "title": "one"}, {"id": "1", "title": "text one"}]})),
    ("list", structured(["a", "b"])),
    ("list", structured({"items": [], "total": 0, "next": "page2"})),
    ("chart", structured(LINE)),
    ("chart", structured(PIE)),
    ("chart", structured(SCATTER)),
    (
        "dashboard",
        dashboard(panel("t", "table", TABLE, x=0, y=0, w=6, h=2), panel("c", "chart", PIE, x=6, y=0, w=6, h=2)),
    ),
    ("dashboard", dashboard(panel("p", "text", {"text": "x = 1", "format": "code", "language": "python"}))),
    ("form", structured(FORM)),
    ("form", form(type="multiselect", options=[1, 2], default=[2])),
    ("image", image()),
    ("image", image("image/webp", WEBP)),
    ("image", {"content": [{"type": "text", "text": "a caption"}, *image()["content"]]}),
    ("image", link("image/svg+xml", "https://example.com/a.svg")),
    ("audio", audio()),
    ("audio", blob("audio/mpeg", "SUQzBAAAAAAA")),
    ("video", blob("video/mp4", MP4)),
    ("video", link("video/webm", "files://clip")),
    ("card", structured(CARD)),
    ("message", structured(MESSAGE)),
    (
        "message",
        structured(
            {"role": "tool", "parts": [{"type": "text", "text": "see"}, {"type": "link", "url": "https://example.com"}]}
        ),
    ),
]

INVALID: list[tuple[str, dict[str, Any], str]] = [
    ("text", {"content": []}, "/content"),
    ("text", {}, "/content"),
    ("text", {"content": [{"type": "text", "text": 7}]}, "/text"),
    ("text", image(), "/content/0"),
    ("table", text("no json"), "/structuredContent"),
    ("table", structured({"columns": ["a", "b"], "rows": [["x"]]}), "/rows/0: has 1 cells, there are 2 columns"),
    ("table", structured({"columns": ["a", "a"], "rows": []}), "/columns/1"),
    ("table", structured({"columns": ["a"], "rows": [{"a": 1, "b": 2}]}), "/rows/0: has a cell 'b'"),
    ("table", structured({"columns": ["a", "b"], "rows": [{"a": 1}]}), "/rows/0: has no cell"),
    (
        "table",
        structured({"columns": [{"name": "n", "type": "integer"}], "rows": [[1], [1.5]]}),
        "/rows/1/0: is no integer",
    ),
    ("table", structured({"columns": [{"name": "n", "type": "number"}], "rows": [[True]]}), "/rows/0/0"),
    (
        "table",
        structured({"columns": [{"name": "n", "type": "datetime"}], "rows": [["2026-11-23T03:12:00"]]}),
        "/rows/0/0",
    ),
    ("table", structured({"columns": [{"name": "n", "type": "date"}], "rows": [["tomorrow"]]}), "/rows/0/0"),
    ("table", structured({"columns": ["a"], "rows": [[1]], "total": 0}), "/total"),
    ("table", structured({"columns": [], "rows": []}), "/columns"),
    ("table", structured({"columns": ["a"], "rows": [], "colour": 1}), "/: Additional properties"),
    ("list", structured({"items": [{"id": 1, "title": "a"}, {"id": 1, "title": "b"}]}), "/items/1/id"),
    ("list", structured({"items": [{"text": "no title"}]}), "/items/0"),
    ("list", structured({"items": ["a"], "total": 0}), "/total"),
    ("list", structured({"a": 1}), "/: "),
    ("chart", chart("line", [1, 2, 3], labels=["a", "b"]), "/series/0/data: has 3 values, there are 2 labels"),
    ("chart", chart("bar", [1]), "/labels"),
    ("chart", chart("bar", [[1, 2]], labels=["a"]), "/series/0/data: has points"),
    ("chart", chart("pie", [1], [2], labels=["a"]), "/series"),
    ("chart", chart("pie", [-1], labels=["a"]), "/series/0/data/0"),
    ("chart", chart("scatter", [1]), "/series/0/data"),
    ("chart", chart("scatter", [[1, 2]], labels=["a"]), "/labels"),
    ("chart", chart("donut", [1], labels=["a"]), "/chart"),
    ("chart", structured({**LINE, "series": [*LINE["series"], LINE["series"][0]]}), "/series/2/name"),
    ("dashboard", dashboard(), "/panels"),
    ("dashboard", dashboard(panel("a", "card", CARD), panel("a", "card", CARD)), "/panels/1/id"),
    ("dashboard", dashboard(panel("a", "pie", PIE)), "/panels/0/kind"),
    ("dashboard", dashboard(panel("a", "dashboard", {"panels": []})), "/panels/0/kind"),
    ("dashboard", dashboard(panel("a", "table", {"columns": ["a"], "rows": [[1, 2]]})), "/panels/0/artifact/rows/0"),
    ("dashboard", dashboard(panel("a", "card", CARD, x=8, y=0, w=6, h=1)), "/panels/0: ends in column 14"),
    (
        "dashboard",
        dashboard(panel("a", "card", CARD, x=0, y=0, w=6, h=2), panel("b", "card", CARD, x=5, y=1, w=2, h=2)),
        "/panels/1: covers",
    ),
    ("dashboard", dashboard(panel("a", "card", CARD, x=1)), "/panels/0"),
    ("form", structured({"fields": []}), "/fields"),
    ("form", structured({"fields": [{"name": "a", "type": "text"}, {"name": "a", "type": "date"}]}), "/fields/1/name"),
    ("form", form(type="select"), "/fields/0/options"),
    ("form", form(options=["a"]), "/fields/0/options: a text has none"),
    ("form", form(type="select", options=["a"], default="b"), "/fields/0/default"),
    ("form", form(type="multiselect", options=["a"], default="a"), "/fields/0/default"),
    ("form", form(type="number", min=2, max=1), "/fields/0/min"),
    ("form", form(min=2), "/fields/0/min: a text has no bounds"),
    ("form", form(type="integer", max=2, default=3), "/fields/0/default"),
    ("form", form(type="integer", default=1.5), "/fields/0/default"),
    ("form", form(type="boolean", default="yes"), "/fields/0/default"),
    ("form", form(type="datetime", default="2026-11-23"), "/fields/0/default"),
    ("form", form(type="password"), "/fields/0/type"),
    ("image", text("no picture"), "/content: holds no image"),
    ("image", audio(), "/content/0"),
    ("image", image("image/jpeg"), "/data: does not begin as image/jpeg does"),
    ("image", image("image/webp", WAV), "/data"),
    ("image", image(data="not base64!!"), "/data"),
    ("image", image(data=""), "/data"),
    ("image", link("image/png", "javascript:alert(1)"), "/uri"),
    ("audio", audio("audio/ogg"), "/data"),
    ("audio", image(), "/content/0"),
    ("audio", {"content": [{"type": "audio", "mimeType": "audio/wav"}]}, "/"),
    ("video", blob("video/mp4", PNG), "/data"),
    ("video", image(), "/content/0"),
    ("video", link("video/mp4", "file:///etc/passwd"), "/uri"),
    ("video", {"content": [{"type": "resource_link", "name": "x", "uri": "https://example.com/a.mp4"}]}, "/content"),
    ("card", structured({"text": "no title"}), "/"),
    ("card", card(actions=[{"label": "Go", "url": "javascript:alert(1)"}]), "/actions/0/url"),
    ("card", card(actions=[{"label": "Go"}]), "/actions/0"),
    ("card", card(actions=[{"label": "Go", "url": "https://example.com", "tool": "x"}]), "/actions/0"),
    ("card", card(image="http://example.com/a.png"), "/image"),
    ("card", card(image="data:text/html;base64,AAAA"), "/image"),
    ("card", card(fields=[{"label": "a", "value": 1}, {"label": "a", "value": 2}]), "/fields/1/label"),
    ("message", structured({"role": "user"}), "/"),
    ("message", message(parts=[{"type": "text", "text": "both"}]), "/"),
    ("message", message(role="god"), "/role"),
    ("message", message(at="yesterday"), "/at"),
    ("message", message(at="2026-11-23T03:12:00"), "/at"),
    ("message", message(id="1", in_reply_to="1"), "/in_reply_to"),
    ("message", structured({"role": "user", "parts": [{"type": "link", "url": "file:///x"}]}), "/parts/0/url"),
]
