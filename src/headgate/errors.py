"""Every error Headgate raises on purpose, in one tree.

    HeadgateError                     something we can explain            500  INTERNAL            exit 1
    ├── InvalidRequest                the request is wrong                400  INVALID_ARGUMENT    exit 2
    │   ├── SpecError                 a setting is wrong or unknown       400
    │   ├── PayloadTooLarge           more bytes than the limit           413  RESOURCE_EXHAUSTED
    │   ├── ReceiveTimeout            head or body came too slowly        408  DEADLINE_EXCEEDED
    │   ├── NotAcceptable             no form of answer the client takes  406
    │   ├── UnsupportedMedia          a content type nobody reads here    415
    │   └── FailedPrecondition        right, but not for this model       400  FAILED_PRECONDITION
    ├── Unauthenticated               no key, or one nobody knows         401  UNAUTHENTICATED     exit 4
    ├── PermissionDenied              the key lacks the scope             403  PERMISSION_DENIED   exit 4
    ├── NotFound                      no such model, version, path        404  NOT_FOUND           exit 5
    │   └── UnknownModel              no deployment (version) of the name 404
    ├── MethodNotAllowed              the path exists, the verb does not  405  UNIMPLEMENTED
    ├── Conflict                      the state forbids it                409  ABORTED             exit 6
    ├── Misdirected                   Host or Origin is not ours          421  PERMISSION_DENIED
    ├── Overloaded                    shed at the door; retry later       429  RESOURCE_EXHAUSTED  exit 7
    ├── Cancelled                     the client went away                499  CANCELLED
    ├── ModelFailed                   the model raised                    500  INTERNAL
    ├── Unsupported                   known, and not offered              501  UNIMPLEMENTED
    ├── NotReady                      nothing serves this now             503  UNAVAILABLE         exit 7
    │   └── ReplicaLost               the replica died under the request  503  UNAVAILABLE
    ├── DeadlineExceeded              out of time                         504  DEADLINE_EXCEEDED   exit 7
    ├── PackageError                  a model cannot be packaged          400  INVALID_ARGUMENT    exit 3
    │   ├── UnsupportedModel          nobody here loads this              400
    │   ├── UntrustedPickle           needs --trust-pickle                400
    │   ├── MissingDependency         a framework is not installed        400
    │   ├── EnvironmentFailed         requirements cannot be installed    400
    │   └── DigestMismatch            bytes are not what was promised     400
    ├── StorageFull                   no space left on the disk           507  RESOURCE_EXHAUSTED  exit 9
    └── ServerUnreachable             no server answers                   503  UNAVAILABLE         exit 8

The wire sees three things of an error: its status (HTTP or gRPC), ``str(error)`` and ``error.code``, a stable machine-readable
word. A message says what happened, what follows and what to do, and names the field. This file imports nothing, so that every
process, the replica's included, can raise from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeadgateError(Exception):
    """The base to catch. ``status`` is the HTTP status, ``grpc`` the gRPC code, ``exit`` the exit code of the command line."""

    status = 500
    grpc = 13
    exit = 1
    code = "internal"
    retry_after: float | None = None
    """Seconds after which a retry makes sense, or None."""


class InvalidRequest(HeadgateError):
    """The request is wrong; sending it again will not help."""

    status, grpc, exit, code = 400, 3, 2, "invalid_request"


class SpecError(InvalidRequest):
    """A setting is unknown or has a wrong value; the message holds its path and, where there is one, the likely spelling."""

    code = "invalid_spec"


class PayloadTooLarge(InvalidRequest):
    """More bytes than the limit; nothing was computed."""

    status, grpc, code = 413, 8, "payload_too_large"


class ReceiveTimeout(InvalidRequest):
    """The head or the body of a request came too slowly; the connection is closed."""

    status, grpc, code = 408, 4, "receive_timeout"


class NotAcceptable(InvalidRequest):
    """The Accept header asks for forms of answer of which this path has none; nothing was computed."""

    status, code = 406, "not_acceptable"


class UnsupportedMedia(InvalidRequest):
    """The Content-Type of the body is none that this path reads."""

    status, code = 415, "unsupported_media_type"


class FailedPrecondition(InvalidRequest):
    """The request would be right for another model: this one has not what it names. Only gRPC tells it from `InvalidRequest`."""

    grpc, code = 9, "failed_precondition"


class Unauthenticated(HeadgateError):
    """No key was sent, or one that is not known (or was revoked)."""

    status, grpc, exit, code = 401, 16, 4, "unauthenticated"


class PermissionDenied(HeadgateError):
    """The key is known and lacks the scope."""

    status, grpc, exit, code = 403, 7, 4, "permission_denied"


class NotFound(HeadgateError):
    """There is no such deployment, model, version or path."""

    status, grpc, exit, code = 404, 5, 5, "not_found"


class UnknownModel(NotFound):
    """A request names a deployment, or a version of one, that is not served; protocols say it in their own words."""

    code = "unknown_model"

    def __init__(self, message: str, model: str = "", version: str | None = None) -> None:
        super().__init__(message)
        self.model = model
        self.version = version


class MethodNotAllowed(HeadgateError):
    """The path exists, but not with this verb; ``allow`` names those it has."""

    status, grpc, code = 405, 12, "method_not_allowed"

    def __init__(self, message: str, allow: str = "") -> None:
        super().__init__(message)
        self.allow = allow


class Conflict(HeadgateError):
    """The present state forbids it."""

    status, grpc, exit, code = 409, 10, 6, "conflict"


class Misdirected(HeadgateError):
    """The Host or Origin header names somebody else: a DNS rebinding or cross-site request."""

    status, grpc, code = 421, 7, "misdirected"


class Overloaded(HeadgateError):
    """Shed at the door: the queue is full. Nothing was computed; retry after ``retry_after`` seconds."""

    status, grpc, exit, code = 429, 8, 7, "overloaded"

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Cancelled(HeadgateError):
    """The client went away before the answer."""

    status, grpc, code = 499, 1, "cancelled"


class ModelFailed(HeadgateError):
    """The model raised, or returned something its signature does not allow."""

    code = "model_failed"


class Unsupported(HeadgateError):
    """A known feature that this server does not offer, or that is off."""

    status, grpc, code = 501, 12, "unsupported"


class NotReady(HeadgateError):
    """Known, but nothing serves it at the moment."""

    status, grpc, exit, code = 503, 14, 7, "not_ready"

    def __init__(self, message: str, retry_after: float | None = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ReplicaLost(NotReady):
    """The replica that held the request died, and the request may not (or not again) be run elsewhere."""

    code = "replica_lost"


class DeadlineExceeded(HeadgateError):
    """The request's time is over; if it was still waiting, it was not run."""

    status, grpc, exit, code = 504, 4, 7, "deadline_exceeded"


class PackageError(HeadgateError):
    """A model cannot be made into a package, or a package cannot be used."""

    status, grpc, exit, code = 400, 3, 3, "package_error"


class UnsupportedModel(PackageError):
    """No runtime knows this file or folder, or it is damaged."""

    code = "unsupported_model"


class UntrustedPickle(PackageError):
    """The file runs code when it is loaded, and nobody has said that it may."""

    code = "untrusted_pickle"


class MissingDependency(PackageError):
    """A framework is not installed; the message holds the command that installs it."""

    code = "missing_dependency"


class EnvironmentFailed(PackageError):
    """The package's requirements cannot be locked or installed."""

    code = "environment_failed"


class DigestMismatch(PackageError):
    """The bytes are not those the digest promises; nothing was loaded."""

    code = "digest_mismatch"


class StorageFull(HeadgateError):
    """No space left on the disk; nothing was changed."""

    status, grpc, exit, code = 507, 8, 9, "storage_full"


class ServerUnreachable(HeadgateError):
    """No server answers at that address."""

    status, grpc, exit, code = 503, 14, 8, "server_unreachable"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``'; did you mean X?'`` for the nearest of ``known``, else an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def by_code(code: str, message: str) -> HeadgateError:
    """Rebuild an error from its ``code`` and text, as it crossed a socket between our own processes."""
    pending = [HeadgateError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind(message)
        pending.extend(kind.__subclasses__())
    return HeadgateError(message)
