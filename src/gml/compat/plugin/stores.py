"""The tracking store and the model registry store: MLflow's REST clients without HTTP in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import RestException
from mlflow.store.model_registry.rest_store import RestStore as RegistryRestStore
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.proto_json_utils import parse_dict
from mlflow.utils.rest_utils import MlflowHostCreds

from gml.compat.in_process import local, repository_of
from gml.domain.errors import GmlError
from gml.service.errors import ServiceError, translate

if TYPE_CHECKING:
    from gml.compat.in_process import Local

_SOURCE_TAG = "mlflow.source.name"


def _open(uri: str | None) -> Local:
    try:
        return local(repository_of(uri or "gml:"))
    except GmlError as error:
        raise _refusal(translate(error)) from error


def _refusal(error: ServiceError) -> RestException:
    return RestException({"error_code": error.code, "message": str(error)})


def _ask(found: Local, method: str, endpoint: str, body: str | None, response: Any) -> Any:
    try:
        answer = found.call(method, endpoint, json.loads(body) if body else {})
    except ServiceError as error:
        raise _refusal(error) from error
    parse_dict(js_dict=_plain(answer), message=response)
    return response


def _plain(value: Any) -> Any:
    """Return an answer as it would come out of JSON: tuples are lists."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


class GmlTrackingStore(RestStore):
    """Runs, experiments and logged models in the git repository of a `gml:` URI.

    What gml has no place for (traces, evaluation data sets, scorers, ...) raises an error that names it.

    Args:
        store_uri: such as `gml:///path/to/repo`.
        artifact_uri: not used: files belong to their run.
    """

    def __init__(self, store_uri: str | None = None, artifact_uri: str | None = None) -> None:  # noqa: ARG002
        self._path = repository_of(store_uri or "gml:")
        _open(store_uri)
        super().__init__(lambda: MlflowHostCreds(store_uri))

    @property
    def local(self) -> Local:
        """The repository, as this process has it open."""
        return local(self._path)

    @property
    def supports_workspaces(self) -> bool:
        """There are none."""
        return False

    def _call_endpoint(
        self,
        api: Any,
        json_body: str | None = None,
        endpoint: str | None = None,
        retry_timeout_seconds: int | None = None,  # noqa: ARG002
        response_proto: Any = None,
    ) -> Any:
        known = self._METHOD_TO_INFO if api in self._METHOD_TO_INFO else self._V3_METHOD_TO_INFO
        path, method = known[api]
        return _ask(self.local, method, endpoint or path, json_body, response_proto or api.Response())

    def create_run(self, *args: Any, **kwargs: Any) -> Any:
        """See MLflow; also keeps the exact code and environment of this process, as `gml.start_run` does."""
        run = super().create_run(*args, **kwargs)
        self._capture(run.info.run_id, run.data.tags)
        return run

    def _capture(self, run_id: str, tags: dict[str, str]) -> None:
        from gml.tracking.source import capture_own_environment, capture_source
        from gml.tracking.start import kind_of_process

        if _SOURCE_TAG not in tags:
            return  # not of this process: a server creates it for somebody
        space = self.local.store.workspace
        top = space.store.location.worktree
        if top is None or not Path.cwd().is_relative_to(top):
            return
        facts = capture_source(space, None, kind=tags.get("mlflow.source.type") or kind_of_process()).facts
        events: list[list[Any]] = [["set", "source", facts]]
        environment = capture_own_environment()
        if environment:
            events.append(["env", dict(environment)])
        try:
            with self.local.store.live.writing(run_id) as recorder:
                recorder.append(*events)
        except ServiceError as error:
            raise _refusal(error) from error

    def _search_datasets(self, experiment_ids: list[str]) -> list[Any]:
        from mlflow.entities import _DatasetSummary

        from gml.service import search

        try:
            found = search.datasets(self.local.store, experiment_ids)
        except ServiceError as error:
            raise _refusal(error) from error
        return [_DatasetSummary(**entry) for entry in found]

    def log_spans(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: there is no place for traces."""
        del args, kwargs
        raise NotImplementedError("gml has no traces; docs/mlflow.md says what it has")


class GmlRegistryStore(RegistryRestStore):
    """The registry of the git repository of a `gml:` URI.

    Args:
        store_uri: such as `gml:///path/to/repo`.
        tracking_uri: not used: runs are in the same repository.
    """

    def __init__(self, store_uri: str | None = None, tracking_uri: str | None = None) -> None:  # noqa: ARG002
        self._path = repository_of(store_uri or "gml:")
        _open(store_uri)
        super().__init__(lambda: MlflowHostCreds(store_uri))

    @property
    def supports_workspaces(self) -> bool:
        """There are none."""
        return False

    def _call_endpoint(
        self,
        api: Any,
        json_body: str | None = None,
        call_all_endpoints: bool = False,
        extra_headers: dict[str, str] | None = None,  # noqa: ARG002
    ) -> Any:
        if call_all_endpoints:
            endpoint, method = self._get_all_endpoints_from_method(api)[0]
        else:
            endpoint, method = self._get_endpoint_from_method(api)
        return _ask(local(self._path), method, endpoint, json_body, self._get_response_from_method(api))
