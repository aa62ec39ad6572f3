"""The policy: who may do what. A frozen value, its strict reader, and the text that `gml` writes.

format: gml-policy 1
version: 1
prev: null
repo: 6f0c...                  # 32 hexadecimal digits, the same for ever
people:
  alice:
    keys: [ssh-ed25519 AAAA...]
    emails: [alice@example.org]
    forge: {github: 4711}
admins: {people: [alice, bob], threshold: 2}
stages:
  Staging: {}
  Production:
    approvers: [alice, bob, carol]
    threshold: 2
    from: Staging
    checks: ["metrics.auc >= champion.metrics.auc - 0.005"]
    formats: [data]
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from gml.policy import names, yaml_subset
from gml.policy.canonical import digest
from gml.policy.errors import RefusedError
from gml.policy.records import FORMAT_CLASSES
from gml.policy.sshsig import PublicKey, parse_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

POLICY_FORMAT: Final = "gml-policy 1"
FORGES: Final = ("github", "gitlab", "gitea")
_REPO: Final = re.compile(r"[0-9a-f]{32}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EMAIL: Final = re.compile(r"[^\s@<>]{1,100}@[^\s@<>]{1,200}")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a person or service.

    Attributes:
        public: the key.
        expires: seconds since the epoch from which on it signs nothing any more, None for never.
    """

    public: PublicKey
    expires: int | None = None

    def valid(self, now: int) -> bool:
        """Whether the key may sign at a time (seconds since the epoch)."""
        return self.expires is None or now < self.expires


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can sign.

    Attributes:
        name: in the policy.
        keys: theirs alone.
        emails: addresses in commits, lower case.
        forge: forge -> numeric user id.
    """

    name: str
    keys: tuple[Key, ...]
    emails: tuple[str, ...] = ()
    forge: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageRule:
    """What it takes to change a stage.

    Attributes:
        name: of the stage.
        approvers: whose approval counts.
        threshold: how many persons must approve; 0 for a stage that needs nobody.
        from_stage: the stage that must hold the version already.
        checks: conditions over the recorded run, in the grammar of queries.
        formats: classes of formats that may go there.
        requester_may_approve: whether the person that asked counts as well.
    """

    name: str
    approvers: tuple[str, ...] = ()
    threshold: int = 0
    from_stage: str | None = None
    checks: tuple[str, ...] = ()
    formats: tuple[str, ...] = FORMAT_CLASSES
    requester_may_approve: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A CI service whose signature vouches for reviews made on a forge."""

    name: str
    forge: str
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy.

    Attributes:
        version: counts the policies of a repository, from 1.
        prev: SHA-256 of the policy before, None for the first.
        repo: id of the repository.
        people: by name.
        admins: who decide about the next policy.
        admin_threshold: how many of them.
        writers: who may register versions and ask for promotions.
        stages: by name; there are no others.
        aliases: alias -> stage whose version it must point at.
        signed: whether every commit must be signed by a writer.
        services: by name.
        digest: SHA-256 of the file.
    """

    version: int
    prev: str | None
    repo: str
    people: Mapping[str, Person]
    admins: tuple[str, ...]
    admin_threshold: int
    writers: tuple[str, ...]
    stages: Mapping[str, StageRule]
    aliases: Mapping[str, str]
    signed: bool
    services: Mapping[str, Service]
    digest: str

    def owner(self, key: PublicKey) -> str | None:
        """Return the person that a key belongs to."""
        for person in self.people.values():
            if any(each.public == key for each in person.keys):
                return person.name
        return None

    def by_email(self, email: str) -> str | None:
        """Return the person that an address in a commit belongs to."""
        wanted = email.lower()
        return next((p.name for p in self.people.values() if wanted in p.emails), None)


class _Reader:
    """Takes a mapping apart and remembers where it is, for messages."""

    def __init__(self, where: str) -> None:
        self.where = where

    def error(self, what: str, hint: str | None = None) -> RefusedError:
        return RefusedError("policy", f"{self.where}: {what}", hint=hint)

    def keys(
        self, value: Any, place: str, allowed: Iterable[str], required: Iterable[str] = ()
    ) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.error(f"{place} is not a mapping")
        known = list(allowed)
        for key in value:
            if key not in known:
                near = get_close_matches(str(key), known, 1)
                raise self.error(
                    f"{place} has the key {key!r:.60}, which means nothing",
                    f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}",
                )
        for key in required:
            if key not in value:
                raise self.error(f"{place} lacks {key!r}")
        return value

    def texts(self, value: Any, place: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(f"{place} is not a list of texts")
        if len(set(value)) != len(value):
            raise self.error(f"{place} names something twice")
        return tuple(value)

    def whole(self, value: Any, place: str, least: int) -> int:
        if type(value) is not int or value < least:
            raise self.error(f"{place} is {value!r:.40}, not a whole number from {least} on")
        return value

    def flag(self, value: Any, place: str) -> bool:
        if not isinstance(value, bool):
            raise self.error(f"{place} is {value!r:.40}, not true or false")
        return value

    def people(self, value: Any, place: str, known: Mapping[str, Any]) -> tuple[str, ...]:
        found = self.texts(value, place)
        for name in found:
            if name not in known:
                near = get_close_matches(name, known, 1)
                raise self.error(
                    f"{place} names {name!r:.60}, who is not among the people",
                    f"did you mean {near[0]!r}?" if near else "add them under `people` with a key",
                )
        return found


def _time(reader: _Reader, value: Any, place: str) -> int | None:
    if value is None:
        return None
    try:
        if not isinstance(value, str) or not _DATE.fullmatch(value):
            raise ValueError
        return int(dt.datetime.fromisoformat(f"{value}T00:00:00+00:00").timestamp())
    except ValueError:
        raise reader.error(f"{place} is {value!r:.40}, not a date such as 2027-12-31") from None


def _keys(reader: _Reader, value: Any, place: str) -> tuple[Key, ...]:
    if not isinstance(value, list) or not value:
        raise reader.error(f"{place} is not a list with a key in it")
    found = []
    for item in value:
        if isinstance(item, str):
            found.append(Key(_key(reader, item, place)))
            continue
        parts = reader.keys(item, place, ("key", "expires"), ("key",))
        found.append(
            Key(_key(reader, parts["key"], place), _time(reader, parts.get("expires"), f"{place}: expires"))
        )
    return tuple(found)


def _key(reader: _Reader, text: Any, place: str) -> PublicKey:
    if not isinstance(text, str):
        raise reader.error(f"{place} has a key that is not text")
    try:
        return parse_key(text)
    except RefusedError as error:
        raise reader.error(f"{place}: {error.message}") from None


def _person(reader: _Reader, name: str, value: Any) -> Person:
    place = f"people.{name}"
    if not names.is_person(name):
        raise reader.error(
            f"{name!r:.60} cannot name a person", "use lower-case ASCII letters, digits, _ and -"
        )
    parts = reader.keys(value, place, ("keys", "emails", "forge"), ("keys",))
    emails = tuple(e.lower() for e in reader.texts(parts.get("emails", []), f"{place}.emails"))
    if not all(_EMAIL.fullmatch(email) for email in emails):
        raise reader.error(f"{place}.emails has something that is no address")
    forge = reader.keys(parts.get("forge", {}), f"{place}.forge", FORGES)
    for key, number in forge.items():
        reader.whole(number, f"{place}.forge.{key}", 1)
    return Person(name, _keys(reader, parts["keys"], f"{place}.keys"), emails, forge)


def _stage(reader: _Reader, name: str, value: Any, people: Mapping[str, Person]) -> StageRule:
    place = f"stages.{name}"
    if not names.is_stage(name):
        raise reader.error(f"{name!r:.60} is not a stage name")
    allowed = ("approvers", "threshold", "from", "checks", "formats", "requester_may_approve")
    parts = reader.keys(value, place, allowed)
    approvers = reader.people(parts.get("approvers", []), f"{place}.approvers", people)
    threshold = reader.whole(parts.get("threshold", 1 if approvers else 0), f"{place}.threshold", 0)
    if threshold > len(approvers):
        raise reader.error(f"{place} asks for {threshold} approvals and names {len(approvers)} approvers")
    formats = reader.texts(parts.get("formats", list(FORMAT_CLASSES)), f"{place}.formats")
    strange = [each for each in formats if each not in FORMAT_CLASSES]
    if strange or not formats:
        raise reader.error(
            f"{place}.formats has {strange or 'nothing'}", f"known are {', '.join(FORMAT_CLASSES)}"
        )
    source = parts.get("from")
    if source is not None and not isinstance(source, str):
        raise reader.error(f"{place}.from is not text")
    return StageRule(
        name=name,
        approvers=approvers,
        threshold=threshold,
        from_stage=source,
        checks=reader.texts(parts.get("checks", []), f"{place}.checks"),
        formats=formats,
        requester_may_approve=reader.flag(
            parts.get("requester_may_approve", False), f"{place}.requester_may_approve"
        ),
    )


_TOP: Final = (
    "format", "version", "prev", "repo", "people", "admins", "writers", "stages", "aliases", "signed",
    "services",
)  # fmt: skip


def read_policy(data: bytes, where: str = names.POLICY_PATH) -> Policy:
    """Return the policy that a file states.

    Raises:
        RefusedError: it has a key, a name or a number that makes no sense; the message says which.
    """
    reader = _Reader(where)
    parts = reader.keys(
        yaml_subset.load(data, where), "the policy", _TOP,
        ("format", "version", "prev", "repo", "people", "admins", "stages"),
    )  # fmt: skip
    if parts["format"] != POLICY_FORMAT:
        raise reader.error(f"format is {parts['format']!r:.60}, expected {POLICY_FORMAT!r}")
    version = reader.whole(parts["version"], "version", 1)
    prev = parts["prev"]
    if (prev is None) != (version == 1) or not (prev is None or names.is_digest(prev)):
        raise reader.error(
            "prev must be null in version 1, and the SHA-256 of the policy before in later ones"
        )
    if not isinstance(parts["repo"], str) or not _REPO.fullmatch(parts["repo"]):
        raise reader.error("repo is not 32 hexadecimal digits (quote it where they are all decimal)")
    listed = reader.keys(
        parts["people"], "people", parts["people"] if isinstance(parts["people"], dict) else ()
    )
    people = {name: _person(reader, name, value) for name, value in listed.items()}
    admins = reader.keys(parts["admins"], "admins", ("people", "threshold"), ("people", "threshold"))
    admin_names = reader.people(admins["people"], "admins.people", people)
    threshold = reader.whole(admins["threshold"], "admins.threshold", 1)
    if threshold > len(admin_names):
        raise reader.error(f"admins.threshold is {threshold}, and there are {len(admin_names)} admins")
    stated = reader.keys(
        parts["stages"], "stages", parts["stages"] if isinstance(parts["stages"], dict) else ()
    )
    stages = {name: _stage(reader, name, value, people) for name, value in stated.items()}
    _check_stages(reader, stages)
    services = _services(reader, parts.get("services", {}))
    _check_keys(reader, people, services)
    aliases = reader.keys(parts.get("aliases", {}), "aliases", parts.get("aliases") or ())
    for alias, stage in aliases.items():
        if not names.is_alias(alias) or stage not in stages:
            raise reader.error(f"aliases.{alias!s:.60} does not tie an alias to a stage of this policy")
    writers = reader.people(parts["writers"], "writers", people) if "writers" in parts else tuple(people)
    return Policy(
        version=version, prev=prev, repo=parts["repo"], people=people, admins=admin_names,
        admin_threshold=threshold, writers=writers, stages=stages, aliases=aliases,
        signed=reader.flag(parts.get("signed", False), "signed"), services=services, digest=digest(data),
    )  # fmt: skip


def _check_stages(reader: _Reader, stages: Mapping[str, StageRule]) -> None:
    if len({name.lower() for name in stages}) != len(stages):
        raise reader.error("two stages differ only in upper and lower case")
    for rule in stages.values():
        seen = [rule.name]
        while (source := stages[seen[-1]].from_stage) is not None:
            if source not in stages:
                near = get_close_matches(source, stages, 1)
                raise reader.error(
                    f"stages.{seen[-1]}.from names {source!r:.60}, which is not a stage of this policy",
                    f"did you mean {near[0]!r}?" if near else None,
                )
            if source in seen:
                raise reader.error(f"the stages {', '.join(seen)} wait for each other")
            seen.append(source)


def _services(reader: _Reader, value: Any) -> dict[str, Service]:
    found = {}
    for name, item in reader.keys(value, "services", value if isinstance(value, dict) else ()).items():
        place = f"services.{name}"
        if not names.is_person(name):
            raise reader.error(f"{name!r:.60} cannot name a service")
        parts = reader.keys(item, place, ("forge", "keys"), ("forge", "keys"))
        if parts["forge"] not in FORGES:
            raise reader.error(f"{place}.forge is {parts['forge']!r:.40}", f"known are {', '.join(FORGES)}")
        found[name] = Service(name, parts["forge"], _keys(reader, parts["keys"], f"{place}.keys"))
    return found


def _check_keys(reader: _Reader, people: Mapping[str, Person], services: Mapping[str, Service]) -> None:
    """One key belongs to one person, one address and one account as well: approvals count persons."""
    owners: dict[object, str] = {}
    for person in people.values():
        marks: list[object] = [key.public.blob for key in person.keys]
        marks += person.emails
        marks += person.forge.items()
        for mark in marks:
            if owners.setdefault(mark, person.name) != person.name or marks.count(mark) > 1:
                raise reader.error(
                    f"a key, address or account of {person.name} is listed twice (also {owners[mark]})"
                )
    for service in services.values():
        if any(key.public.blob in owners for key in service.keys):
            raise reader.error(f"the service {service.name} has the key of a person")
