// Something that is got in several steps, such as a decoded picture.

import { useEffect, useState } from "preact/hooks";
import { isAborted } from "./api";

/** What was got for a key. */
export interface Loaded<T> {
  /** The latest value; that of an earlier key while the next one is under way. */
  readonly value: T | undefined;
  /** The key of the value or of the error. */
  readonly of: string | null;
  readonly error: Error | undefined;
}

const NOTHING = { value: undefined, of: null, error: undefined };

/** Gets something again when its key changes. Null gets nothing. */
export function useLoaded<T>(key: string | null, load: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [state, setState] = useState<Loaded<T>>(NOTHING);
  useEffect(() => {
    if (key === null) {
      setState(NOTHING);
      return;
    }
    const abort = new AbortController();
    load(abort.signal).then(
      (value) => abort.signal.aborted || setState({ value, of: key, error: undefined }),
      (error: unknown) => {
        if (abort.signal.aborted || isAborted(error)) return;
        const known = error instanceof Error ? error : new Error(String(error));
        setState({ value: undefined, of: key, error: known });
      },
    );
    return () => abort.abort();
  }, [key]);
  return state;
}
