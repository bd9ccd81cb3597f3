// Speaking with the hub: JSON, problems as they come, lines of a stream.

export class Problem extends Error {
  constructor(status, body) {
    super(body.sentence || "");
    this.status = status;
    this.code = body.code || "UNKNOWN";
    this.field = body.field;
    this.clause = body.clause;
  }
}

async function send(method, path, body, signal, keepalive = false) {
  const options = { method, signal, keepalive, credentials: "same-origin", headers: {} };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { code: "HUB_UNREACHABLE" });
  }
  if (response.ok) return response;
  let said = {};
  try { said = await response.json(); } catch { /* a proxy's page says nothing we could show */ }
  throw new Problem(response.status, said);
}

export async function get(path, signal) {
  return (await send("GET", path, undefined, signal)).json();
}

export async function post(path, body) {
  return (await send("POST", path, body)).json();
}

// `keepalive`: goes out even when the page is left.
export async function remove(path, { keepalive = false } = {}) {
  await send("DELETE", path, undefined, undefined, keepalive);
}

// Calls `begin` with the request's id, then `take` with each line's value as it arrives.
export async function postLines(path, body, begin, take, signal) {
  const response = await send("POST", path, body, signal);
  begin(response.headers.get("campanile-request-id"));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) take(JSON.parse(line));
  }
}
