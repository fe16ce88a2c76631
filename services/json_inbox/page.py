"""The page at ``/swagger/``: the calls of openapi.json, to be read and tried. Self-contained: it works without the Internet."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'">
<title>mailwarren json-inbox</title>
<style>
 :root { color-scheme: light dark; }
 body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
 details { border: 1px solid #8888; border-radius: .4rem; margin: .5rem 0; padding: .4rem .8rem; }
 summary { cursor: pointer; }
 code, pre, textarea, input { font: 14px/1.4 ui-monospace, monospace; }
 textarea { width: 100%; min-height: 12rem; box-sizing: border-box; }
 pre { overflow: auto; background: #8882; padding: .6rem; border-radius: .4rem; white-space: pre-wrap; }
 .method { display: inline-block; min-width: 4.5rem; font-weight: 700; }
 label { display: block; margin: .4rem 0; }
 button { font: inherit; margin: .4rem .4rem .4rem 0; }
</style>
</head>
<body>
<h1>mailwarren json-inbox</h1>
<p>The calls of <a href="/openapi.json">openapi.json</a>. "Send" makes the real request to this server.</p>
<p><label>Token (needed unless you are on the server's own machine)
 <input id="token" type="password" autocomplete="off" placeholder="mw_…"></label></p>
<main id="calls">Loading …</main>
<script>
"use strict";
function make(name, text, attributes) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  Object.assign(element, attributes || {});
  return element;
}
function examplesOf(media) {
  if (media.examples) return Object.entries(media.examples).map(([name, one]) => [name, one.value]);
  return media.example ? [["example", media.example]] : [];
}
function show(path, method, operation) {
  const box = make("details");
  const head = make("summary");
  head.append(make("span", method.toUpperCase(), {className: "method"}), make("code", path), " " + (operation.summary || ""));
  box.append(head, make("p", operation.description || ""));
  const inputs = (operation.parameters || []).filter((one) => one.in !== "header").map((parameter) => {
    const label = make("label", parameter.name + " (" + parameter.in + ") ");
    const input = make("input", "", {name: parameter.name, placeholder: parameter.description || ""});
    const [first] = parameter.in === "path" ? examplesOf(parameter) : [];
    if (first) input.value = first[1];
    label.append(input);
    box.append(label);
    return [parameter, input];
  });
  let area = null;
  const body = operation.requestBody && operation.requestBody.content["application/json"];
  if (body) {
    area = make("textarea", "", {spellcheck: false, ariaLabel: "body"});
    for (const [name, value] of examplesOf(body)) {
      const text = JSON.stringify(value, null, 2);
      if (!area.value) area.value = text;
      const button = make("button", "example: " + name, {type: "button"});
      button.onclick = () => { area.value = text; };
      box.append(button);
    }
    box.append(area);
  }
  for (const [code, answer] of Object.entries(operation.responses || {})) {
    box.append(make("div", code + ": " + answer.description));
  }
  const button = make("button", "Send", {type: "button"});
  const output = make("pre", "", {hidden: true});
  button.onclick = async () => {
    let url = path;
    const query = new URLSearchParams();
    for (const [parameter, input] of inputs) {
      if (parameter.in === "path") url = url.replace(/\\{[^}]*\\}/, encodeURIComponent(input.value));
      else if (input.value) query.set(parameter.name, input.value);
    }
    if ([...query].length) url += "?" + query;
    const options = {method: method.toUpperCase(), headers: {}};
    const token = document.getElementById("token").value.trim();
    if (token) options.headers.Authorization = "Bearer " + token;
    if (area) { options.body = area.value; options.headers["Content-Type"] = "application/json"; }
    output.hidden = false;
    try {
      const answer = await fetch(url, options);
      const text = await answer.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON */ }
      output.textContent = answer.status + " " + answer.statusText + "\\n" + shown;
    } catch (error) { output.textContent = String(error); }
  };
  box.append(button, output);
  return box;
}
fetch("/openapi.json").then((answer) => answer.json()).then((document_) => {
  const calls = document.getElementById("calls");
  calls.textContent = "";
  let tag = null;
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const group = (operation.tags || ["other"])[0];
      if (group !== tag) { calls.append(make("h2", group)); tag = group; }
      calls.append(show(path, method, operation));
    }
  }
}).catch((error) => { document.getElementById("calls").textContent = String(error); });
</script>
</body>
</html>
"""
