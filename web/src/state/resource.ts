// Answers of the API that a component shows.

import { useEffect, useState } from "preact/hooks";
import { type ApiError, apiErrorOf, ask, isAborted } from "./api";
import { refreshed } from "./live";

/** An answer, or why there is none. */
export interface Resource<T> {
  /** The answer; that of the last request while the next one is under way. */
  value: T | undefined;
  error: ApiError | undefined;
  /** Whether `value` is the answer to an earlier request. */
  isStale: boolean;
}

/**
 * Asks for an address, again when the address changes, and when `refreshed` or `version` says that the answer may be
 * another one. An earlier request is aborted. Null asks for nothing.
 */
export function useAnswer<T>(url: string | null, version = 0): Resource<T> {
  const [state, setState] = useState<{
    url: string | null;
    value: T | undefined;
    error: ApiError | undefined;
  }>({
    url: null,
    value: undefined,
    error: undefined,
  });
  const all = refreshed.value;
  useEffect(() => {
    if (url === null) return;
    const abort = new AbortController();
    ask<T>(url, abort.signal).then(
      (value) => setState({ url, value, error: undefined }),
      (error: unknown) => {
        if (abort.signal.aborted || isAborted(error)) return;
        const known = apiErrorOf(error);
        setState((last) => ({ url, value: last.url === url ? last.value : undefined, error: known }));
      },
    );
    return () => abort.abort();
  }, [url, version, all]);
  if (url === null) return { value: undefined, error: undefined, isStale: false };
  const isStale = state.url !== url;
  return { value: state.value, error: isStale ? undefined : state.error, isStale };
}
