"""`/docs`: a page for people: what is deployed, how to call it, and a box to try it. Everything in it comes from the signatures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import ClassVar

from headgate.errors import NotReady, Unsupported
from headgate.package.signature import TensorSpec
from headgate.protocols.base import Catalogue, DeploymentView, InferRequest, InferResponse, Plan, Protocol, Reply, Request, Route
from headgate.protocols.base.shown import WHOLE_SEQUENCE, shown_row
from headgate.tensors import Buffer

_HTML = b"text/html; charset=utf-8"
_POLICY = (
    b"content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    b"frame-ancestors 'none'\r\n"
)


class Docs(Protocol):
    """The page, its style and its script."""

    name: ClassVar[str] = "docs"
    routes: ClassVar[Sequence[Route]] = (
        Route("GET", "/docs", "page"),
        Route("GET", "/docs/style.css", "style", "open"),
        Route("GET", "/docs/try.js", "script", "open"),
    )

    def page(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """All deployments, each with its inputs, outputs and an example to try."""
        sections = "".join(_section(deployment) for deployment in catalogue.deployments())
        body = _PAGE.format(sections=sections or "<p>Nothing is deployed yet: <code>headgate deploy MODEL</code></p>")
        return Reply(body.encode(), _HTML, headers=_POLICY)

    def style(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """The style sheet."""
        return Reply(_STYLE, b"text/css; charset=utf-8")

    def script(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """What the Send buttons do."""
        return Reply(_SCRIPT, b"text/javascript; charset=utf-8")

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Never called: no route infers."""
        raise Unsupported("the documentation takes no requests to infer")

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Never called: no route infers."""
        raise Unsupported("the documentation takes no requests to infer")


def _section(deployment: DeploymentView) -> str:
    name = escape(deployment.name)
    try:
        plan = deployment.plan(None)
    except NotReady as error:
        return f"<section><h2>{name}</h2><p class=bad>{escape(str(error))}</p></section>"
    row, path = shown_row(deployment.example(), plan.signature), f"/predict/{name}"
    said = f"<code>POST {path}</code> rows"
    if plan.stateful:
        row, path = row | WHOLE_SEQUENCE, f"/v2/models/{name}/generate"
        said = f"<code>POST {path}</code> a request of a sequence"
    state = "ready" if deployment.ready else "not ready"
    versions = ", ".join(map(str, deployment.versions()))
    infers = "generate_stream</code> parts, as they come" if plan.streams else "infer</code> Open Inference Protocol"
    return (
        f"<section><h2>{name} <small class={'good' if deployment.ready else 'bad'}>{state}</small></h2>"
        f"<p>{escape(deployment.platform(None))}, version {versions}</p>"
        f"<table><tr><th>input</th><th>type</th><th>shape</th></tr>{_rows(plan.signature.inputs)}"
        f"<tr><th>output</th><th></th><th></th></tr>{_rows(plan.signature.outputs)}</table>"
        f"<p>{said} &middot; <code>POST /v2/models/{name}/{infers}</p>"
        f'<form data-path="{path}"><textarea rows=6 spellcheck=false>{escape(json.dumps(row))}</textarea>'
        "<button>Send</button><pre hidden></pre></form></section>"
    )


def _rows(specs: Sequence[TensorSpec]) -> str:
    return "".join(
        f"<tr><td>{escape(spec.name)}{' (optional)' if spec.optional else ''}</td><td>{spec.dtype}</td><td>{list(spec.shape)}</td></tr>"
        for spec in specs
    )


_PAGE = (
    '<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width,initial-scale=1">'
    "<title>Headgate</title><link rel=stylesheet href=/docs/style.css><h1>Headgate</h1>"
    "<p><a href=/openapi.json>OpenAPI</a> &middot; <a href=/metrics>metrics</a> &middot; "
    "<a href=/v2/health/ready>readiness</a></p>{sections}<script src=/docs/try.js></script></html>"
)
_STYLE = b"""body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a2b34;background:#fff}
h1{color:#0b5d7a}section{border:1px solid #cfd9de;border-radius:8px;padding:0 1.2rem 1rem;margin:1.2rem 0}
table{border-collapse:collapse}th,td{text-align:left;padding:.15rem 1.5rem .15rem 0}th{color:#5a6b74;font-weight:600}
small{font-size:.8rem;font-weight:600}.good{color:#1d7a3e}.bad{color:#a12c2c}textarea{width:100%;font:14px/1.4 ui-monospace,monospace}
pre,code{background:#f1f5f7;border-radius:4px;padding:.1rem .3rem}pre{padding:.6rem;overflow:auto}button{font:inherit;margin-top:.4rem}
"""
_SCRIPT = b"""for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const out = form.querySelector("pre");
    const started = performance.now();
    try {
      const reply = await fetch(form.dataset.path, {method: "POST", body: form.querySelector("textarea").value});
      const text = await reply.text();
      out.textContent = reply.status + " in " + (performance.now() - started).toFixed(1) + " ms\\n" + text;
    } catch (error) { out.textContent = String(error); }
    out.hidden = false;
  });
}
"""
