// The held or the rejected items of a key, with their reasons.

import { useEffect, useRef, useState } from "preact/hooks";
import { type ApiError, apiErrorOf, apiUrl, ask, isAborted } from "../state/api";
import type { Item, Items } from "../state/api.types";
import { shellWord } from "../state/query";
import { formatStep } from "../state/steps";
import { info } from "../state/store";
import { Close } from "./icons";
import { Preview } from "./Preview";
import { Button, Command, Empty, ErrorNote, Link, Skeleton } from "./parts";
import { Rejected, reasons } from "./Rejected";
import { itemView } from "./Tile";

interface ItemsDialogProps {
  run: string;
  /** The key; null for all of the run. */
  of: string | null;
  state: "held" | "rejected";
  close: () => void;
}

export function ItemsDialog({ run, of, state, close }: ItemsDialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const { items, error, isAll, more } = useItems(run, of, state);
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="items-title" onClose={close}>
      <div class="dialog-head">
        <h1 id="items-title" class="cut">
          {state === "held" ? "Held" : "Rejected"}: <bdi>{of ?? run}</bdi>
        </h1>
        <Button kind="plain" icon aria-label="Close" onClick={() => dialog.current?.close()}>
          <Close />
        </Button>
      </div>
      <div class="dialog-body">
        {error && <ErrorNote error={error} />}
        {!items && !error && <Skeleton height={200} />}
        {items?.length === 0 && isAll && <Empty title="Nothing is left here." />}
        {items &&
          items.length > 0 &&
          (state === "held" ? <HeldItems items={items} /> : <Rejected items={items} />)}
        {items && !isAll && (
          <Button class="more" onClick={more}>
            Show more
          </Button>
        )}
      </div>
    </dialog>
  );
}

const PAGE = 100;

/** Items, page by page. */
function useItems(run: string, key: string | null, state: string) {
  const [items, setItems] = useState<Item[]>();
  const [error, setError] = useState<ApiError>();
  const [cursor, setCursor] = useState<string | null>(null);
  const [wanted, setWanted] = useState(PAGE);
  const abort = useRef<AbortController | null>(null);
  useEffect(() => {
    const control = new AbortController();
    abort.current = control;
    const load = async () => {
      const found = [...(items ?? [])];
      let next = cursor;
      // An answer may be empty and yet have a next one.
      do {
        const url = apiUrl("items", { run, key, state, limit: PAGE, cursor: next });
        const answer: Items = await ask<Items>(url, control.signal);
        found.push(...answer.items);
        next = answer.next;
      } while (next !== null && found.length < wanted);
      setItems(found);
      setCursor(next);
    };
    load().catch((problem: unknown) => {
      if (!isAborted(problem)) setError(apiErrorOf(problem));
    });
    return () => control.abort();
  }, [run, key, state, wanted]);
  const more = () => setWanted((items?.length ?? 0) + PAGE);
  return { items, error, isAll: items !== undefined && cursor === null, more };
}

/** Held items: their pictures are developed from the dumps. */
function HeldItems({ items }: { items: readonly Item[] }) {
  // What a box holds is released there.
  const line = info.value && !info.value.fleet && releaseLine(items, info.value.store);
  return (
    <>
      {line && (
        <section class="reason">
          <p class="muted">
            Nothing is lost: they wait in their dumps. This makes images of them, and sends those to the
            targets:
          </p>
          <Command line={line} />
        </section>
      )}
      {reasons(items).map(([reason, of]) => (
        <section key={reason} class="reason">
          <h2>
            <bdi>{reason}</bdi>
          </h2>
          <ul class="previews">
            {of.map((item) => (
              <HeldItem key={`${item.key} ${item.step} ${item.index}`} item={item} />
            ))}
          </ul>
        </section>
      ))}
    </>
  );
}

/** The command that releases the items of a key; null if one has no key. */
function releaseLine(items: readonly Item[], store: string): string | null {
  const [first] = items;
  if (!first || first.key === null) return null;
  const words = ["safelight", "--store", store, "release", first.run, first.key];
  const isOneStep = items.every(({ step }) => step === first.step);
  if (isOneStep && first.step !== null) words.push("--step", String(first.step));
  return words.map(shellWord).join(" ");
}

function placeOf({ run, key, step, index }: Item) {
  return key === null || step === null ? null : { run, key, step, index: index ?? 0 };
}

function HeldItem({ item }: { item: Item }) {
  const place = placeOf(item);
  if (!place) return null;
  const words = `step ${formatStep(place.step)} · ${place.index}`;
  return (
    <li>
      <Link to={itemView(place)} class="preview" title={item.caption ?? words}>
        <span class="preview-picture">
          <Preview place={place} size={128} alt={`${place.key}, ${words}`} />
        </span>
        <span class="num">{words}</span>
      </Link>
    </li>
  );
}
