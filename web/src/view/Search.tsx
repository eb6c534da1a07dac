import { useEffect, useRef, useState } from "preact/hooks";
import "./Search.css";
import { type ApiError, apiErrorOf, apiUrl, ask, isAborted, sha20 } from "../state/api";
import type { Item, Items } from "../state/api.types";
import { useKeys } from "../state/keys";
import { commandOf, parseQuery, type Query } from "../state/query";
import { part, push } from "../state/route";
import { formatStep } from "../state/steps";
import { info } from "../state/store";
import { formatPlace, type Place, START } from "../state/url";
import { Preview } from "./Preview";
import { Button, Command, Empty, ErrorNote, Link } from "./parts";
import { Rejected } from "./Rejected";
import { RunDot } from "./Runs";
import { Badges, itemView } from "./Tile";

/** Items that are shown; the search stops there, until it is told to go on. */
const SHOWN_MAX = 200;
const shown = { q: part("q") };

export function Search() {
  const text = shown.q.value;
  const query = parseQuery(text);
  useKeys({ back: () => history.back() });
  if (text.trim() === "") return <Help />;
  return (
    <div class="search">
      {query.errors.length > 0 ? (
        <div class="search-errors" role="alert">
          {query.errors.map((error) => (
            <p key={error}>{error}</p>
          ))}
        </div>
      ) : (
        <Results key={text} text={text} query={query} />
      )}
    </div>
  );
}

interface Progress {
  items: Item[];
  lookedAt: number;
  of: number;
  /** Where to go on; null at the end. */
  next: string | null;
  isRunning: boolean;
  error: ApiError | undefined;
}

const BEGIN: Progress = { items: [], lookedAt: 0, of: 0, next: null, isRunning: true, error: undefined };

/** Runs the search, answer by answer. */
function useSearch(query: Query): [Progress, () => void, () => void] {
  const [progress, setProgress] = useState(BEGIN);
  const abort = useRef<AbortController | null>(null);
  const run = async (from: string | null, before: readonly Item[]) => {
    const control = new AbortController();
    abort.current = control;
    let cursor = from;
    const items = [...before];
    const limit = items.length + SHOWN_MAX;
    try {
      do {
        const answer: Items = await ask<Items>(urlOf(query, cursor), control.signal);
        items.push(...answer.items);
        cursor = answer.next;
        const isRunning = cursor !== null && items.length < limit;
        const { looked_at: lookedAt, of } = answer;
        setProgress({ items: [...items], lookedAt, of, next: cursor, isRunning, error: undefined });
      } while (cursor !== null && items.length < limit);
    } catch (error) {
      if (isAborted(error)) setProgress((last) => ({ ...last, isRunning: false }));
      else setProgress((last) => ({ ...last, isRunning: false, error: apiErrorOf(error) }));
    }
  };
  useEffect(() => {
    void run(null, []);
    return () => abort.current?.abort();
  }, []);
  const stop = () => abort.current?.abort();
  const goOn = () => {
    setProgress((last) => ({ ...last, isRunning: true }));
    void run(progress.next, progress.items);
  };
  return [progress, stop, goOn];
}

function urlOf(query: Query, cursor: string | null): string {
  const { run, key, state, where, first, last } = query;
  return apiUrl("items", { run, key, state, where, first_step: first, last_step: last, cursor, limit: 200 });
}

function Results({ text, query }: { text: string; query: Query }) {
  const [progress, stop, goOn] = useSearch(query);
  const { items, lookedAt, of, next, isRunning, error } = progress;
  const command = info.value && commandOf(query, info.value);
  const isFleet = info.value?.fleet && query.run === null;
  const rejected = items.filter(({ state }) => state === "rejected");
  const others = items.filter(({ state }) => state !== "rejected");
  const number = (n: number) => n.toLocaleString("en");
  return (
    <>
      <div class="bar">
        <h2 class="cut">
          <bdi>{text}</bdi>
        </h2>
        <span class="muted num" role="status">
          {of > 0
            ? `${number(lookedAt)} of ${number(of)} looked at, ${number(items.length)} found`
            : "Searching"}
        </span>
        <div class="bar-end">
          {isRunning && <Button onClick={stop}>Stop</Button>}
          {!isRunning && next !== null && <Button onClick={goOn}>Go on</Button>}
        </div>
      </div>
      <progress
        class="search-progress"
        aria-label="Items looked at"
        max={Math.max(1, of)}
        value={isRunning ? lookedAt : 0}
      />
      {isFleet && (
        <p class="search-note muted">
          This looks at the runs that were opened here. For all runs of all boxes, query the catalogue with
          SQL: see docs/fleet.md.
        </p>
      )}
      {error && <ErrorNote error={error} />}
      {rejected.length > 0 && (
        <div class="search-rejected">
          <Rejected items={rejected} />
        </div>
      )}
      {items.length > 0 ? (
        <ul class="results">
          {others.map((item, at) => (
            <Result key={at} item={item} />
          ))}
        </ul>
      ) : (
        !isRunning && !error && <NothingFound isAll={next === null} />
      )}
      {command && (
        <footer class="search-command">
          <span class="muted">The same in a terminal</span>
          <Command line={command} />
        </footer>
      )}
    </>
  );
}

function Result({ item }: { item: Item }) {
  const place: Place | null =
    item.key === null || item.step === null
      ? null
      : { run: item.run, key: item.key, step: item.step, index: item.index ?? 0 };
  const title = item.key ?? item.path ?? "no key";
  const body = (
    <>
      <span class="result-picture">
        <Picture item={item} place={place} />
      </span>
      <span class="result-key cut" title={title}>
        <bdi>{title}</bdi>
      </span>
      <span class="result-foot num">
        <RunDot run={item.run} />
        {item.step === null ? "no step" : formatStep(item.step)}
        {item.index !== null && item.index > 0 && <span class="muted">· {item.index}</span>}
        <Badges item={item} />
      </span>
      <span class="result-caption">
        <bdi>{item.state === "image" ? item.caption : item.reason}</bdi>
      </span>
    </>
  );
  return (
    <li class="result" title={item.run}>
      {place ? <Link to={itemView(place)}>{body}</Link> : body}
    </li>
  );
}

function Picture({ item, place }: { item: Item; place: Place | null }) {
  const [isGone, setGone] = useState(false);
  if (item.pruned) return <span class="chip">pruned</span>;
  if (!place || isGone) return <span class="chip">no picture</span>;
  const alt = `${place.key}, step ${formatStep(place.step)}${item.caption ? `, ${item.caption}` : ""}`;
  if (item.state === "held") {
    return <Preview place={place} size={256} alt={alt} />;
  }
  const isSmall = Math.max(item.width ?? 256, item.height ?? 256) <= 80;
  return (
    <img
      src={`/t/256/${sha20(item.sha256 ?? "")}?${formatPlace(place)}`}
      class={isSmall ? "is-pixelated" : ""}
      alt={alt}
      loading="lazy"
      decoding="async"
      onError={() => setGone(true)}
    />
  );
}

function NothingFound({ isAll }: { isAll: boolean }) {
  return (
    <Empty title={isAll ? "Nothing matches" : "Nothing found so far"}>
      <p>
        {isAll
          ? "No item of this store has all of these properties. All conditions must hold; leave one out to find more."
          : "The search was stopped."}
      </p>
    </Empty>
  );
}

const EXAMPLES: [string, string][] = [
  ["nan>0", "images with NaN"],
  ["caption~car", "captions with this text; a bare word does the same"],
  ["key~val step:100..200", "keys with this text, at these steps"],
  ["state:held", "held items, with their previews"],
  ["state:rejected", "dumps that became no image"],
  ["clipped>0.05 std<0.01", "several conditions: all must hold"],
];

function Help() {
  return (
    <Empty title="Search all items">
      <p>
        Type conditions in the field above. They are those of <code>ls --where</code>.
      </p>
      <ul class="search-examples">
        {EXAMPLES.map(([q, what]) => (
          <li key={q}>
            <Button onClick={() => push({ ...START, page: "search", q })}>
              <code>{q}</code>
            </Button>
            <span class="muted">{what}</span>
          </li>
        ))}
      </ul>
    </Empty>
  );
}
