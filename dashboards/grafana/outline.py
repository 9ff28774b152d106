"""The dashboards as a text for people: what each one answers, its variables, and its panels in reading order."""

from collections.abc import Iterable, Iterator

from dashboards.grafana.contents import Json, panels_of, variables_of


def outline(dashboards: Iterable[Json]) -> str:
    """Returns Markdown; docs/grafana.md holds it.

    >>> print(outline([{"title": "T", "uid": "u", "description": "Why?", "panels": []}]))
    ### T (`u`)
    <BLANKLINE>
    Why? Variables: none.
    <BLANKLINE>
    """
    return "\n".join(line for dashboard in dashboards for line in _lines(dashboard))


def _lines(dashboard: Json) -> Iterator[str]:
    names = ", ".join(f"`{name}`" for name in variables_of(dashboard)) or "none"
    yield f"### {dashboard['title']} (`{dashboard['uid']}`)"
    yield ""
    yield f"{dashboard['description']} Variables: {names}."
    yield ""
    for panel in panels_of(dashboard):
        if panel["type"] == "row":
            yield f"- **{panel['title']}**"
        elif panel.get("title"):
            yield f"  - *{panel['title']}* ({panel['type']}): {panel['description']}"
    if dashboard["panels"]:
        yield ""
