"""The part of YAML that a policy may use, read strictly.

Mappings, lists and single-line scalars. No duplicate keys, anchors, aliases, tags, merge keys or second
documents: what a person reads is what is meant. Plain `true`, `false`, `null` and whole numbers are what they
look like; every other scalar is text (also `no`, `1.5` and dates).
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from gml.policy.errors import RefusedError

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 6
_WORDS: Final = {"true": True, "false": False, "null": None}
_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,14}")
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(data: bytes, where: str) -> dict[str, Any]:
    """Return the mapping that a file holds.

    Raises:
        RefusedError: it is no mapping, or uses more of YAML than is allowed.
    """
    if len(data) > MAX_BYTES:
        raise RefusedError("size", f"{where} has {len(data)} bytes, the limit is {MAX_BYTES}")
    try:
        text = data.decode("utf-8")
        _check_events(text, where)
        node = yaml.compose(text, Loader=_LOADER)
    except UnicodeDecodeError:
        raise RefusedError("yaml", f"{where} is not UTF-8") from None
    except yaml.YAMLError as error:
        raise RefusedError("yaml", f"{where} is not YAML: {' '.join(str(error).split())[:200]}") from None
    value = _value(node, where)
    if not isinstance(value, dict):
        raise RefusedError("yaml", f"{where} is not a mapping")
    return value


def _check_events(text: str, where: str) -> None:
    level = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise RefusedError("yaml", f"{where} uses anchors or aliases, which are not allowed")
        if getattr(event, "tag", None):
            raise RefusedError("yaml", f"{where} uses a tag such as !!str, tags are not allowed")
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1
        if level > MAX_DEPTH:
            raise RefusedError("yaml", f"{where} is nested deeper than {MAX_DEPTH} levels")


def _value(node: Any, where: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                raise RefusedError("yaml", f"{where} has a key that is not text")
            key = key_node.value
            if key in found:
                raise RefusedError("yaml", f"{where} has the key {key!r:.60} twice")
            found[key] = _value(value_node, where)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, where) for item in node.value]
    if not isinstance(node, yaml.ScalarNode):
        return None
    if node.style:  # quoted or block text
        return node.value
    if node.value in _WORDS:
        return _WORDS[node.value]
    return int(node.value) if _WHOLE.fullmatch(node.value) else node.value
