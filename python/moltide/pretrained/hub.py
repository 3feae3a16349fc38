"""Files of a model on the Hugging Face Hub (or a mirror), fetched one by one as they are needed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from moltide.errors import CheckpointError, MissingDependencyError

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HTTP_LIBRARIES = {"httpx", "httpcore", "requests", "urllib3"}
_TRUE = {"1", "ON", "YES", "TRUE"}


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form of a repository id, "owner/name"."""
    return _REPOSITORY.fullmatch(name) is not None and ".." not in name and "--" not in name


class HubFiles:
    """A repository at one commit. The first file asked for settles the commit; every later one
    comes from the same, so that a push in between cannot mix two versions.

    `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_HOME` and `HF_TOKEN` are honoured as huggingface_hub does.
    """

    def __init__(
        self,
        repository: str,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool | None = None,
        also_tried: str = "",
    ) -> None:
        self.repository = repository
        self.revision = revision
        self.cache_dir = None if cache_dir is None else os.fspath(cache_dir)
        self.token = token
        self.offline = _offline() if local_files_only is None else local_files_only
        self.also_tried = f" (also tried: {also_tried})" if also_tried else ""
        self._commit: str | None = None
        self._trouble = ""

    @property
    def where(self) -> str:
        """The repository for messages, with what kept files from being fetched, if anything."""
        name = self.repository if self.revision is None else f"{self.repository}@{self.revision}"
        return name + self._trouble

    def get(self, name: str) -> Path | None:
        """Local path of a file, downloaded unless it is cached; None if the repository has none.

        Raises:
            CheckpointError: no such repository or revision, no permission, offline and not cached,
                no network, server error.
        """
        try:
            import huggingface_hub
            from huggingface_hub import utils
        except ImportError as error:
            raise MissingDependencyError(
                f"loading {self.repository!r} from the Hub needs huggingface_hub: "
                "pip install huggingface_hub"
            ) from error
        errors: Any = utils  # the name of every release since 0.24
        if self._commit is not None:
            cached = self._cached(name)
            if isinstance(cached, str):
                return Path(cached)
            if cached is not None or self.offline:
                return None
        try:
            path = Path(
                huggingface_hub.hf_hub_download(
                    self.repository,
                    name,
                    revision=self._commit or self.revision,
                    cache_dir=self.cache_dir,
                    token=self.token,
                    local_files_only=self.offline,
                    endpoint=os.environ.get("HF_ENDPOINT") or None,
                    library_name="moltide",
                )
            )
        except errors.LocalEntryNotFoundError as error:
            unreachable = self._unreachable(name, error)
            if self._commit is None:
                raise unreachable from None
            self._trouble = f" ({unreachable})"
            return None
        except errors.EntryNotFoundError:
            return None
        except errors.HFValidationError as error:
            raise CheckpointError(f"{self.repository!r} is not a Hub id: {error}") from None
        except errors.RevisionNotFoundError:
            raise CheckpointError(
                f"{self.repository} on {_endpoint()} has no revision {self.revision!r}"
            ) from None
        except errors.GatedRepoError:
            raise self._refused("is gated: accept its terms on its page, then") from None
        except errors.RepositoryNotFoundError:
            raise self._refused("does not exist, or is private:") from None
        except errors.HfHubHTTPError as error:
            raise self._http_error(name, error) from None
        except Exception as error:
            if type(error).__module__.split(".")[0] not in _HTTP_LIBRARIES:
                raise
            raise self._unreachable(name, error) from None
        self._settle_commit(path, name)
        return path

    def has(self, name: str) -> bool:
        """Whether the repository holds a file; it is not downloaded."""
        from huggingface_hub import HfApi, utils

        errors: Any = utils
        if self._commit is not None and isinstance(self._cached(name), str):
            return True
        if self.offline:
            return False
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=self.token)
        try:
            return api.file_exists(self.repository, name, revision=self._commit or self.revision)
        except (errors.HfHubHTTPError, OSError):
            return False

    def _cached(self, name: str) -> Any:
        """Path of a file in the cache, a marker if the commit is known to lack it, or None.

        Offline, what the cache does not hold counts as absent, so that optional files are.
        """
        import huggingface_hub

        self._trouble = " (offline: only its cached files)" if self.offline else self._trouble
        return huggingface_hub.try_to_load_from_cache(
            self.repository, name, cache_dir=self.cache_dir, revision=self._commit
        )

    def _settle_commit(self, path: Path, name: str) -> None:
        """The cache keeps a file at .../snapshots/<commit>/<name>."""
        if self._commit is None:
            self._commit = path.parents[len(Path(name).parts) - 1].name

    def _refused(self, reason: str) -> CheckpointError:
        said = "a token was sent" if self._sends_token() else "no token was sent"
        return CheckpointError(
            f"{self.repository} on {_endpoint()} {reason} pass token=... or set HF_TOKEN ({said})"
            f"{self.also_tried}"
        )

    def _sends_token(self) -> bool:
        import huggingface_hub

        if isinstance(self.token, str):
            return True
        return self.token is not False and huggingface_hub.get_token() is not None

    def _unreachable(self, name: str, error: Exception) -> CheckpointError:
        if self.offline:
            why = (
                "offline (HF_HUB_OFFLINE or local_files_only), and it is not in the cache "
                f"{self.cache_dir or _default_cache()}"
            )
        else:
            cause: Any = error.__cause__ or error
            why = (
                f"{_endpoint()} could not be reached ({type(cause).__name__}: {cause}), and it is "
                f"not in the cache {self.cache_dir or _default_cache()}"
            )
        return CheckpointError(
            f"{self.repository}: {name} is not available: {why}{self.also_tried}"
        )

    def _http_error(self, name: str, error: Any) -> CheckpointError:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return self._refused(f"answered {status} (no permission):")
        return CheckpointError(f"{self.where}: {_endpoint()} answered {status} for {name}: {error}")


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _default_cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)
