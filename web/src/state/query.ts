// A search as it is typed, as parameters of `/api/v1/items` and as a command line. Pure.
//
// `nan>0 caption~"red car" key~val step:100..200 state:held run:NAME word`

import type { Info } from "./api.types";
import { parseStep } from "./steps";

/** What a search asks for. */
export interface Query {
  run: string | null;
  key: string | null;
  first: string | null;
  last: string | null;
  state: string | null;
  /** Conditions as `ls --where` takes them. */
  where: string[];
  /** What can't be read, and what was wanted. */
  errors: string[];
}

const STATES = ["image", "held", "rejected", "waiting"];

/** Reads a search. Conditions are checked by the gallery. */
export function parseQuery(text: string): Query {
  const query: Query = { run: null, key: null, first: null, last: null, state: null, where: [], errors: [] };
  for (const word of wordsOf(text)) {
    const [, name = "", value = ""] = /^(run|key|step|state):(.*)$/su.exec(word) ?? [];
    if (name === "run" || name === "key") query[name] = value;
    else if (name === "state") takeState(query, value);
    else if (name === "step") takeSteps(query, value);
    else query.where.push(/[=<>~]/u.test(word) ? word : `caption~${word}`);
  }
  return query;
}

function takeState(query: Query, value: string): void {
  if (STATES.includes(value)) query.state = value;
  else query.errors.push(`got state:${value}, want state: and one of ${STATES.join(", ")}`);
}

function takeSteps(query: Query, value: string): void {
  const [, first = "", dots = "", last = ""] = /^([0-9]*)(\.\.)?([0-9]*)$/u.exec(value) ?? [];
  const isRead = [first, last].every((step) => step === "" || parseStep(step) !== null);
  if (!isRead || first + last === "") {
    query.errors.push(`got step:${value}, want such as step:120, step:100..200, step:100.. or step:..200`);
    return;
  }
  query.first = first === "" ? null : first;
  query.last = dots === "" ? first : last === "" ? null : last;
}

/** The words of a search. Quotes keep spaces together; a backslash in quotes keeps a quote. */
export function wordsOf(text: string): string[] {
  const words: string[] = [];
  let word = "";
  let isWord = false;
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const char = text[i] ?? "";
    if (quote !== "") {
      if (char === "\\" && (text[i + 1] === quote || text[i + 1] === "\\")) word += text[++i];
      else if (char === quote) quote = "";
      else word += char;
    } else if (char === '"' || char === "'") {
      quote = char;
      isWord = true;
    } else if (/\s/u.test(char)) {
      if (isWord) words.push(word);
      word = "";
      isWord = false;
    } else {
      word += char;
      isWord = true;
    }
  }
  if (isWord) words.push(word);
  return words;
}

/** The search as a command line of `safelight ls`; null for a fleet, of which `ls` lists one run at a time. */
export function commandOf(query: Query, { store, fleet }: Pick<Info, "store" | "fleet">): string | null {
  if (fleet && query.run === null) return null;
  const words = fleet ? ["safelight", "ls", "--from", store] : ["safelight", "--store", store, "ls"];
  if (query.run !== null) words.push(query.run);
  // The key is the second of two places: without a run, it is a condition.
  if (query.key !== null && query.run !== null) words.push(query.key);
  if (query.first !== null || query.last !== null) {
    words.push(
      "--step",
      query.first === query.last ? `${query.first}` : `${query.first ?? ""}..${query.last ?? ""}`,
    );
  }
  if (query.state !== null) words.push("--state", query.state);
  if (query.key !== null && query.run === null) words.push("--where", `key=${query.key}`);
  for (const condition of query.where) words.push("--where", condition);
  return words.map(shellWord).join(" ");
}

/** A word that a POSIX shell reads as this text. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/u.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
