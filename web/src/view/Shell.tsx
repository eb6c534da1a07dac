import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { isBound, SHORTCUTS, shortcutsOn, useKeys } from "../state/keys";
import { liveness } from "../state/live";
import { part, push, settle, view } from "../state/route";
import { said } from "../state/say";
import { info } from "../state/store";
import { nextTheme, theme } from "../state/theme";
import { type Page, START } from "../state/url";
import { Chain, Close, Moon, Sun, System } from "./icons";
import { Button, copy, KeyButton, Link } from "./parts";

const TITLES: Record<Page, string> = {
  runs: "Runs",
  grid: "Grid",
  item: "Item",
  compare: "Compare",
  search: "Search",
  missing: "No such page",
};

// The step and the zoom change many times a second, and the shell does not show them.
const shown = { page: part("page"), run: part("run"), key: part("key"), q: part("q") };

/** The header, the page below it, and what all pages share. */
export function Shell({ children }: { children: ComponentChildren }) {
  const isHelpOpen = useSignal(false);
  const search = useRef<HTMLInputElement>(null);
  useKeys({
    search: () => search.current?.focus(),
    theme: nextTheme,
    fullscreen: () => {
      if (document.fullscreenElement) void document.exitFullscreen();
      else void document.documentElement.requestFullscreen();
    },
    help: () => {
      isHelpOpen.value = !isHelpOpen.value;
    },
    copyLink: () => {
      settle();
      void copy(location.href, "Link copied");
    },
  });
  const [page, run, key] = [shown.page.value, shown.run.value, shown.key.value];
  useEffect(() => {
    const what = page === "runs" ? [] : page === "item" ? [key, run[0]] : [run.join(", ")];
    document.title = [...what.filter(Boolean), TITLES[page], "Safelight"].join(" · ");
  }, [page, run, key]);
  return (
    <div class="shell">
      <a class="skip" href="#page">
        Skip to the page
      </a>
      <header class="header">
        <Link to={{}} class="brand" aria-label="Safelight: all runs">
          <Mark />
          Safelight
        </Link>
        <Store />
        <div class="header-end">
          <SearchBox field={search} />
          <Liveness />
          <KeyButton name="copyLink" kind="plain" icon>
            <Chain />
          </KeyButton>
          <KeyButton name="theme" kind="plain" icon>
            {theme.value === "dark" ? <Moon /> : theme.value === "light" ? <Sun /> : <System />}
          </KeyButton>
          <KeyButton name="help" kind="plain" icon>
            <span aria-hidden="true">?</span>
          </KeyButton>
        </div>
      </header>
      <main class="page" id="page" tabIndex={-1}>
        {(page === "grid" || page === "search" || page === "missing") && (
          <h1 class="sr-only">{[TITLES[page], ...run].join(" ")}</h1>
        )}
        {children}
      </main>
      {isHelpOpen.value && (
        <Help
          page={page}
          close={() => {
            isHelpOpen.value = false;
          }}
        />
      )}
      <div role="status" aria-live="polite">
        {said.value !== "" && <p class="toast">{said.value}</p>}
      </div>
    </div>
  );
}

/** The lamp of a darkroom. */
function Mark() {
  return (
    <svg class="brand-mark" viewBox="0 0 18 18" aria-hidden="true">
      <rect x="0.5" y="0.5" width="17" height="17" rx="4.5" fill="var(--text)" />
      <circle cx="9" cy="9" r="4.25" fill="var(--brand)" />
    </svg>
  );
}

function Store() {
  const known = info.value;
  if (!known) return null;
  const name = known.store.split("/").filter(Boolean).at(-1) ?? known.store;
  return (
    <div class="header-store">
      <span class="cut" title={`${known.store} on ${known.host}, Safelight ${known.version}`}>
        {known.fleet ? known.store : `${known.host} · ${name}`}
      </span>
    </div>
  );
}

function Liveness() {
  const known = info.value;
  if (!known) return null;
  if (known.as_of !== null) {
    const at = new Date(known.as_of * 1000);
    const title = `No daemon is running. The store is shown as it was at ${at.toLocaleString()}.`;
    return (
      <span class="liveness" title={title}>
        as of {at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}
      </span>
    );
  }
  const words = { live: "live", connecting: "connecting", lost: "no connection" };
  const state = liveness.value;
  return (
    <span class="liveness" data-state={state} role="status">
      {words[state]}
    </span>
  );
}

function SearchBox({ field }: { field: { current: HTMLInputElement | null } }) {
  const [page, q] = [shown.page.value, shown.q.value];
  const submit = (event: Event) => {
    event.preventDefault();
    const { run } = view.peek();
    push({ ...START, page: "search", run, q: field.current?.value.trim() ?? "" });
    field.current?.blur();
  };
  return (
    <search class="search-box">
      <form onSubmit={submit}>
        <input
          ref={field}
          class="field"
          type="search"
          aria-label="Search items"
          placeholder="nan>0 caption~car"
          spellcheck={false}
          autocomplete="off"
          value={page === "search" ? q : ""}
        />
        <kbd>{SHORTCUTS.search.label}</kbd>
      </form>
    </search>
  );
}

/** All keys of the page. */
function Help({ page, close }: { page: Page; close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const rows = shortcutsOn(page).filter(([name]) => isBound(name));
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="help-title" onClose={close}>
      <div class="dialog-head">
        <h1 id="help-title">Keys on this page</h1>
        <Button kind="plain" icon aria-label="Close" onClick={() => dialog.current?.close()}>
          <Close />
        </Button>
      </div>
      <ul class="dialog-body keys">
        {rows.map(([name, { does, label }]) => (
          <li key={name}>
            {does}
            <kbd>{label}</kbd>
          </li>
        ))}
        {page !== "runs" && page !== "search" && (
          <li>
            {page === "compare" ? "Choose the picture" : "Jump to a step"}
            <kbd>{page === "compare" ? "1 … 8" : "digits Enter"}</kbd>
          </li>
        )}
      </ul>
    </dialog>
  );
}
