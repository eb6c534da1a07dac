// Requests to the HTTP API.

import type { Problem } from "./api.types";

/** An error that the gallery answers with, or that there is no answer. */
export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
    this.name = "ApiError";
  }
}

/** The values of a parameter. Null and undefined leave it out. */
export type Param = string | number | boolean | null | undefined | readonly (string | number)[];

/** How many parsed answers are kept for the case that they are still right. */
const KEPT_MAX = 100;
const kept = new Map<string, { etag: string; value: unknown }>();

/** The address of something in the API: `apiUrl("steps", { run, key })`. */
export function apiUrl(path: string, params: Record<string, Param> = {}): string {
  const query = queryOf(params);
  return query === "" ? `/api/v1/${path}` : `/api/v1/${path}?${query}`;
}

/** Writes parameters as a query. */
export function queryOf(params: Record<string, Param>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value === null || value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) query.append(name, String(one));
  }
  return query.toString();
}

/**
 * Asks for JSON. The browser's cache adds the ETag; if the answer is the one of the last time, the same object is
 * returned.
 */
export async function ask<T>(url: string, signal?: AbortSignal): Promise<T> {
  const response = await request(url, signal);
  const etag = response.headers.get("etag");
  const last = kept.get(url);
  if (etag && last?.etag === etag) {
    void response.body?.cancel();
    return last.value as T;
  }
  const value = (await response.json()) as T;
  if (etag) {
    kept.delete(url);
    kept.set(url, { etag, value });
    const oldest = kept.keys().next();
    if (kept.size > KEPT_MAX && !oldest.done) kept.delete(oldest.value);
  }
  return value;
}

/** Asks for bytes. */
export async function askBytes(url: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const response = await request(url, signal);
  return new Uint8Array(await response.arrayBuffer());
}

/** Sends a request. Fails with an [`ApiError`], or with an `AbortError` if it was aborted. */
export async function request(url: string, signal?: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...(signal ? { signal } : {}) });
  } catch (error) {
    if (isAborted(error)) throw error;
    throw new ApiError(
      problem(0, "No answer", "The gallery does not answer. It may have been stopped.", "no-answer"),
    );
  }
  if (response.ok) return response;
  throw new ApiError(await problemOf(response));
}

async function problemOf(response: Response): Promise<Problem> {
  const otherwise = problem(response.status, "Error", `The gallery answered ${response.status}.`);
  try {
    const got: unknown = await response.json();
    return typeof got === "object" && got !== null ? { ...otherwise, ...got } : otherwise;
  } catch {
    return otherwise;
  }
}

function problem(status: number, title: string, detail: string, code = "unknown"): Problem {
  return { status, title, detail, code, sha20: null, needed: null, allowed: null, every: null };
}

/** An error as the pages show it, whatever went wrong. */
export function apiErrorOf(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const detail = error instanceof Error ? error.message : String(error);
  return new ApiError(problem(0, "Unreadable answer", detail, "unreadable"));
}

/** Whether an error says that something is not there. */
export function isNotFound(error: unknown): boolean {
  return error instanceof ApiError && error.problem.status === 404;
}

/** Whether an error only says that a request was aborted. */
export function isAborted(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** The first 20 digits of a digest, as in `/m` and `/t`. */
export function sha20(sha256: string): string {
  return sha256.slice(0, 20);
}
