"""Point 52 of the TensorFlow Serving checklist, and what 58 and 59 say of labels and of lists: a client sets what is served.

Deliberately otherwise here: only where the server was started with ``--model-control explicit``, and only models of the registry; a folder
that the client names is never read. What control makes of the list is tested with control.
"""

from __future__ import annotations

from typing import Any

import pytest
from tfserving_unwired import MODEL, Call, catalogue, message

from headgate.clock import SystemClock
from headgate.errors import FailedPrecondition, HeadgateError, InvalidRequest, Unsupported
from headgate.journal import Wish, WishedModel, WishKind, decode_wish
from headgate.protocols.base import Later, Reply
from headgate.protocols.tfserving import ModelService, PredictionService
from headgate.protocols.tfserving.messages import MESSAGES
from headgate.routes import WishAnswer, encode_answer
from headgate.serving import link
from headgate.serving.administration import Administration

PATH = f"{MODEL}HandleReloadConfigRequest"
EXPLICIT = "--model-control explicit"


def listed(*names: str, **fields: Any) -> Any:
    """Return a request that lists models; the fields are those of the last one."""
    request = message("ReloadConfigRequest")
    request.config.model_config_list.SetInParent()
    for name in names:
        request.config.model_config_list.config.add(name=name)
    for field, value in fields.items():
        setattr(request.config.model_config_list.config[-1], field, value)
    return request


class Asked:
    """A client that has sent a list to a server where it may, and waits."""

    gone = False

    def __init__(self, request: Any) -> None:
        self.answer: Any = None
        self.served = catalogue()
        self.served.administration = administration = Administration(True, SystemClock().monotonic)
        heard: list[bytes] = []
        administration.send = lambda frame: not heard.append(frame)
        service, call = ModelService(), Call(PATH)
        later = service.reload_config(call, self.served, service.parse(call, request.SerializeToString()))
        assert isinstance(later, Later)
        later.sink = self
        (frame,) = heard
        self.wish: Wish = decode_wish(frame[link.FRAME.size :])
        assert (self.wish.kind, self.wish.model) == (WishKind.RELOAD, "")

    def told(self, **answer: str) -> Any:
        """Let control answer, and return what the client gets."""
        self.served.administration.answered(encode_answer(WishAnswer(number=self.wish.number, **answer)))
        return self.answer

    def reply(self, reply: Reply) -> None:
        """It is done."""
        self.answer = MESSAGES.message("tensorflow.serving.ReloadConfigResponse").FromString(bytes(reply.body))

    def fail(self, error: HeadgateError) -> None:
        """It is not."""
        self.answer = error


def refused(request: Any, kind: type[HeadgateError] = InvalidRequest) -> str:
    """Return why a list is refused before anybody hears of it."""
    with pytest.raises(kind) as raised:
        Asked(request)
    assert type(raised.value) is kind or kind is InvalidRequest
    return str(raised.value)


def test_p52_off_unless_the_server_says_so() -> None:
    """Otherwise it ends in UNIMPLEMENTED, naming what to do. It needs the scope admin even to hear that, and nothing else here does."""
    service = ModelService()
    with pytest.raises(Unsupported, match=f"headgate deploy.*{EXPLICIT}"):
        service.reload_config(Call(PATH), catalogue(), listed("m"))
    scopes = {route.path.rpartition("/")[2]: route.scope for route in (*PredictionService.routes, *service.routes)}
    assert scopes.pop("HandleReloadConfigRequest") == "admin"
    assert set(scopes.values()) == {"infer"}


def test_p52_the_list_goes_to_control_and_the_client_waits() -> None:
    """Names, folders, policies and labels as they were sent; the answer comes with control's, and its status is OK."""
    request = listed("plain", "newest", "two", "all", "chosen", base_path="/models/chosen", model_platform="tensorflow")
    entries = request.config.model_config_list.config
    entries[1].model_version_policy.latest.SetInParent()
    entries[2].model_version_policy.latest.num_versions = 2
    entries[3].model_version_policy.all.SetInParent()
    entries[4].model_version_policy.specific.versions.extend([7, 4])
    entries[4].version_labels["stable"] = 4
    entries[4].version_labels["canary"] = 7
    client = Asked(request)
    assert client.wish.models == (
        WishedModel(name="plain"),
        WishedModel(name="newest", newest=1),
        WishedModel(name="two", newest=2),
        WishedModel(name="all", newest=(1 << 31) - 1),
        WishedModel(name="chosen", base_path="/models/chosen", versions=(7, 4), labels=(("canary", 7), ("stable", 4))),
    )
    assert client.answer is None
    answer = client.told()
    assert (answer.HasField("status"), answer.status.error_code, answer.status.error_message) == (True, 0, "")


def test_p52_an_empty_list_ends_everything() -> None:
    """A list replaces the one before: none is a list, too. Another kind of configuration is not."""
    assert Asked(listed()).wish.models == ()
    said = "not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
    assert said in refused(message("ReloadConfigRequest"))
    custom = message("ReloadConfigRequest")
    custom.config.custom_model_config.SetInParent()
    assert f"ServerConfig type 'custom_model_config' {said}" in refused(custom)


def test_p52_p58_what_control_refuses() -> None:
    """A label of a version that is not served is FAILED_PRECONDITION; everything else the client's mistake."""
    text = "Request to assign label to version 2 of model m, which is not currently available for inference"
    error = Asked(listed("m")).told(error=text, code="failed_precondition")
    assert isinstance(error, FailedPrecondition) and (error.grpc, str(error)) == (9, text)
    error = Asked(listed("m")).told(error="load failed for model 'm'")
    assert type(error) is InvalidRequest and str(error) == "load failed for model 'm'"


def test_p52_lists_that_make_no_sense() -> None:
    """In TensorFlow Serving's words where it has some; each names the field."""
    assert refused(listed("m", "n", "m")).startswith("Illegal to list model m multiple times in config list")
    text = refused(listed("n", "m", base_path="models/m"))
    assert text.startswith(
        "Expected model m to have an absolute path or URI; got base_path()=models/m (model_config_list.config[1].base_path"
    )
    for name in ("", "../m", "a b"):
        assert refused(listed("n", name)).startswith("model_config_list.config[1].name: expected")
    request = listed("m")
    request.config.model_config_list.config[0].model_version_policy.specific.SetInParent()
    assert refused(request).startswith("model_config_list.config[0].model_version_policy.specific.versions: it names no version")


def test_p52_p59_what_is_not_followed_is_refused() -> None:
    """Nothing of a list is ignored: the field is named, and what to do."""
    for fields, name in (({"model_platform": "pytorch"}, "model_platform"), ({"model_type": 2}, "model_type")):
        assert refused(listed("m", **fields), Unsupported).startswith(f"model_config_list.config[0].{name}: ")
    request = listed("m")
    request.config.model_config_list.config[0].logging_config.SetInParent()
    assert refused(request, Unsupported).startswith("model_config_list.config[0].logging_config: ")
    request = listed("m")
    request.metric_names.append("x")
    assert refused(request, Unsupported).startswith("metric_names: ")
