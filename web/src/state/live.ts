// What changes in the store while the page is open: one event stream for all tabs of a browser.
//
// A browser has six connections to a server. A stream in each tab would use them up, so a Web Lock picks one tab, and a
// BroadcastChannel tells the others. A tab that is hidden for a minute lets go.

import { signal } from "@preact/signals";
import { apiUrl } from "./api";
import type { Changed, Hello, RunChanged } from "./api.types";

/** How the page learns of changes. */
export type Liveness = "connecting" | "live" | "lost";
export const liveness = signal<Liveness>("connecting");

/** Changes whenever all answers may be others: after a restart of the gallery, or after a lost connection. */
export const refreshed = signal(0);

/** Changes whenever a run is new, has ended or is gone, or the counts of any run change. */
export const runsVersion = signal(0);

type Listener = (changes: readonly Changed[]) => void;
const listeners = new Set<Listener>();

/** Calls a function with the keys that have changed. Returns a function that ends this. */
export function onChanged(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** What tabs tell each other. */
type Told =
  | { what: "hello"; boot: string }
  | { what: "changed"; changes: Changed[] }
  | { what: "run"; run: RunChanged }
  | { what: "liveness"; liveness: Liveness }
  | { what: "ask" };

const HIDDEN_MS = 60_000;
/** How often the table of runs asks again at most. */
const RUNS_MS = 3_000;

let boot: string | undefined;
let channel: BroadcastChannel | undefined;
let stop: (() => void) | undefined;
let isLeader = false;

/** Begins to listen, and lets go while the tab is hidden. Call it once, if the gallery is live. */
export function listenToChanges(): void {
  channel = new BroadcastChannel("safelight-events");
  channel.addEventListener("message", (event: MessageEvent<Told>) => take(event.data, false));
  let timer: ReturnType<typeof setTimeout> | undefined;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) {
      timer = setTimeout(letGo, HIDDEN_MS);
    } else if (!stop) {
      begin();
      // Nothing is replayed.
      refreshed.value++;
    }
  });
  begin();
}

function begin(): void {
  const abort = new AbortController();
  let close: (() => void) | undefined;
  stop = () => {
    abort.abort();
    close?.();
  };
  channel?.postMessage({ what: "ask" } satisfies Told);
  // Web Locks need a secure context. Without them each tab has its own stream.
  if (!("locks" in navigator)) {
    close = openStream();
    return;
  }
  const lead = () =>
    new Promise<void>((resolve) => {
      if (abort.signal.aborted) return resolve();
      const end = openStream();
      close = () => {
        end();
        resolve();
      };
    });
  navigator.locks.request("safelight-events", { signal: abort.signal }, lead).catch(() => {
    // Aborted while it waited: the tab was hidden.
  });
}

function letGo(): void {
  stop?.();
  stop = undefined;
}

/** Opens the stream, and opens it again when it breaks. Returns a function that closes it. */
function openStream(): () => void {
  isLeader = true;
  let isClosed = false;
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let attempt = 0;
  const connect = () => {
    source = new EventSource(apiUrl("events"));
    const on = (name: string, tell: (data: string) => Told) =>
      source?.addEventListener(name, (event: MessageEvent<string>) => take(tell(event.data), true));
    on("hello", (data) => {
      attempt = 0;
      return { what: "hello", boot: (JSON.parse(data) as Hello).boot };
    });
    on("changed", (data) => ({ what: "changed", changes: [JSON.parse(data) as Changed] }));
    on("run", (data) => ({ what: "run", run: JSON.parse(data) as RunChanged }));
    source.addEventListener("error", () => {
      take({ what: "liveness", liveness: "lost" }, true);
      if (source?.readyState !== EventSource.CLOSED || isClosed) return;
      // The browser gives up after an answer that is no stream, such as 503.
      timer = setTimeout(connect, Math.min(30_000, 1000 * 2 ** attempt++));
    });
  };
  connect();
  return () => {
    isClosed = true;
    isLeader = false;
    clearTimeout(timer);
    source?.close();
  };
}

function take(told: Told, isOwn: boolean): void {
  if (isOwn) channel?.postMessage(told);
  switch (told.what) {
    case "ask":
      if (isLeader && liveness.peek() === "live" && boot) {
        channel?.postMessage({ what: "hello", boot } satisfies Told);
      }
      break;
    case "hello": {
      // Before the first stream, after a lost connection or a restart, anything may have changed unseen.
      if (boot !== told.boot || liveness.peek() === "lost") refreshed.value++;
      boot = told.boot;
      liveness.value = "live";
      break;
    }
    case "liveness":
      liveness.value = told.liveness;
      break;
    case "changed":
      for (const listener of listeners) listener(told.changes);
      touchRuns();
      break;
    case "run":
      touchRuns();
      break;
  }
}

let runsTimer: ReturnType<typeof setTimeout> | undefined;

function touchRuns(): void {
  if (runsTimer !== undefined) return;
  runsTimer = setTimeout(() => {
    runsTimer = undefined;
    runsVersion.value++;
  }, RUNS_MS);
}
