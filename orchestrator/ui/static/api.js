// Questions to the server. The token came behind the address's #, and goes along as a header only.

const KEPT = "token";

export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEPT, given);
    history.replaceState(null, "", location.pathname + "#/network");
  }
  return sessionStorage.getItem(KEPT);
}

const headers = () => ({ Authorization: `Bearer ${sessionStorage.getItem(KEPT)}` });

async function sent(path, asked, signal) {
  const how = { headers: headers(), cache: "no-store", signal };
  if (asked !== undefined) Object.assign(how, { method: "POST", body: JSON.stringify(asked) });
  if (asked !== undefined) how.headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch("/api/" + path, how);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer: is `orchestrator ui` still running?");
  }
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error || `The server answers ${answer.status}.`);
}

export const ask = async (path, asked, signal) => (await sent(path, asked, signal)).json();

// Long work: `progress({what, done, of})` as it goes; its result in the end.
export async function work(path, asked, progress, signal) {
  let result;
  await events(await sent(path, asked, signal), (what, value) => {
    if (what === "progress") progress(value);
    else if (what === "error") throw new Error(value.error);
    else result = value;
  });
  if (result === undefined) throw new Error("The server ended before the work did.");
  return result;
}

// What changes, for as long as the page is there; `state(true|false)` when the stream comes and goes.
export async function follow(tell, state) {
  for (;;) {
    try {
      const answer = await sent("stream");
      state(true);
      await events(answer, tell);
    } catch { /* told by the state */ }
    state(false);
    await new Promise((done) => setTimeout(done, 1500));
  }
}

async function events(answer, tell) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const lines = Object.fromEntries(part.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
      if (lines.event) tell(lines.event, JSON.parse(lines.data));
    }
  }
}
