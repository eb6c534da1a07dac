// The page's side of the worker that develops values.

import { startWorker } from "../state/trusted";
import type { Developed, DevelopRequest } from "./develop.worker";
import workerUrl from "./develop.worker?worker&url";
import type { Tensor } from "./npy";

let worker: Worker | undefined;
let sent: Tensor | null = null;
let id = 0;
const waiting = new Map<number, (developed: Developed) => void>();

/** Develops and marks values. Of several requests under way, each is answered. */
export function developed(tensor: Tensor, ask: Omit<DevelopRequest, "id" | "tensor">): Promise<Developed> {
  worker ??= started();
  id++;
  const request: DevelopRequest = { ...ask, id, tensor: sent === tensor ? null : tensor };
  sent = tensor;
  const answer = new Promise<Developed>((resolve) => waiting.set(id, resolve));
  worker.postMessage(request);
  return answer;
}

function started(): Worker {
  const made = startWorker(workerUrl);
  made.addEventListener("message", (event: MessageEvent<Developed>) => {
    waiting.get(event.data.id)?.(event.data);
    waiting.delete(event.data.id);
  });
  return made;
}
