// Questions by fetch, news by one live stream for the whole page.

let offsetUs = 0;

/** The server's time now, µs: ages and charts don't depend on this computer's clock. */
export const nowUs = () => Date.now() * 1000 + offsetUs;

function learnTime(body) {
  if (body && typeof body.now_us === "number") offsetUs = body.now_us - Date.now() * 1000;
  return body;
}

async function answerOf(response) {
  const body = await response.json().catch(() => null);
  if (response.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  if (!response.ok) throw new Error(body?.error?.message ?? `The page's server answered ${response.status}.`);
  return learnTime(body);
}

/** GET /api/v1/{path}; throws an Error whose message is for people. */
export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) if (value !== undefined && value !== null) query.set(key, value);
  const text = query.toString();
  return answerOf(await fetch(`/api/v1/${path}${text ? `?${text}` : ""}`, { signal, headers: { Accept: "application/json" } }));
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return answerOf(await fetch(`/api/v1/${path}`, { method: "POST", headers, body: JSON.stringify(body) }));
}

/** The page's one EventSource; opening another set of channels closes the one before. */
export class Live {
  constructor(onState) {
    this.onState = onState;
    this.source = null;
  }

  /** handlers: {fleet: f, device: f, …} by kind; `skipped` is called when batches were left out: load anew. */
  open(channels, handlers) {
    this.close();
    const source = new EventSource(`/api/v1/events?channels=${channels.join(",")}`);
    this.source = source;
    this.onState("connecting");
    let wasOpen = false;
    source.addEventListener("hello", (event) => {
      const { resumed } = JSON.parse(event.data);
      if (wasOpen && !resumed) handlers.skipped?.();
      wasOpen = true;
      this.onState("live");
    });
    source.addEventListener("skipped", () => handlers.skipped?.());
    source.addEventListener("error", () => {
      this.onState("lost");
      // Browsers give up after an HTTP error: ask again ourselves.
      if (source.readyState === EventSource.CLOSED && this.source === source) {
        setTimeout(() => { if (this.source === source) { this.open(channels, handlers); handlers.skipped?.(); } }, 3000);
      }
    });
    for (const kind of ["fleet", "anomalies", "pipeline", "simulator", "device"]) {
      if (handlers[kind]) source.addEventListener(kind, (event) => handlers[kind](learnTime(JSON.parse(event.data))));
    }
  }

  close() {
    this.source?.close();
    this.source = null;
  }
}
