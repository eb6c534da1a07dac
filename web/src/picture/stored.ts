// Thumbnails in the browser's store, under their addresses. It needs a secure context, such as localhost.

import type { FrameHead } from "../state/api.types";

/** Pictures kept by the browser. */
const STORED_MAX = 10_000;
const STORE = "safelight-thumbs-1";

const store: Promise<Cache | null> =
  "caches" in self ? caches.open(STORE).catch(() => null) : Promise.resolve(null);
const puts: { url: string; head: FrameHead; bytes: Uint8Array<ArrayBuffer> }[] = [];
let isPutting = false;
let nStored = 0;

function storedUrl(size: number, head: Pick<FrameHead, "run" | "key" | "step" | "index" | "sha20">): string {
  const { run, key, step, index } = head;
  const query = new URLSearchParams({ run, key, step: String(step), index: String(index) });
  return `/t/${size}/${head.sha20}?${query}`;
}

/** Keeps a picture. */
export function toStore(size: number, head: FrameHead, bytes: Uint8Array<ArrayBuffer>): void {
  if (bytes.length === 0 || head.sha20 === "") return;
  puts.push({ url: storedUrl(size, head), head, bytes });
  // While many come, only the newest are worth their writes.
  if (puts.length > 200) puts.shift();
  void putAll();
}

async function putAll(): Promise<void> {
  if (isPutting) return;
  isPutting = true;
  const cache = await store;
  for (let put = puts.pop(); put && cache; put = puts.pop()) {
    const { type, width, height, sha20 } = put.head;
    const headers = { "content-type": type, "x-size": `${width},${height}`, "x-sha20": sha20 };
    try {
      await cache.put(put.url, new Response(put.bytes, { headers }));
      if (nStored++ % 500 === 0) await trim(cache);
    } catch {
      // The disk may be full; the pictures are fetched again then.
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  isPutting = false;
}

async function trim(cache: Cache): Promise<void> {
  const all = await cache.keys();
  for (const one of all.slice(0, Math.max(0, all.length - STORED_MAX))) await cache.delete(one);
}

/** Takes a picture that was kept; null if there is none. */
export async function fromStore(
  size: number,
  of: Pick<FrameHead, "run" | "key" | "step" | "index" | "sha20">,
): Promise<{ head: FrameHead; bytes: Uint8Array<ArrayBuffer> } | null> {
  const response = await (await store)?.match(storedUrl(size, of));
  if (!response) return null;
  const bytes = new Uint8Array(await response.arrayBuffer());
  const [width = 0, height = 0] = (response.headers.get("x-size") ?? "").split(",").map(Number);
  const type = response.headers.get("content-type") ?? "";
  return { head: { ...of, type, size: bytes.length, width, height }, bytes };
}
