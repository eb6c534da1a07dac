// The framing of `/api/v1/frames`: a u32 (little-endian), that many bytes of JSON, the picture's bytes; repeated. Pure.

import type { FrameHead } from "../state/api.types";

/** One picture. Its bytes are a view of the answer. */
export interface Framed {
  head: FrameHead;
  bytes: Uint8Array<ArrayBuffer>;
}

/** A head is some hundred bytes; keys and runs have at most 1,024 each, six times that when escaped. */
const HEAD_MAX = 64 * 1024;

/** Takes frames from bytes as they come. */
export class FrameParser {
  private rest: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  /**
   * Adds bytes and returns the frames that are complete.
   *
   * Throws an `Error` if they are no frames.
   */
  push(bytes: Uint8Array<ArrayBuffer>): Framed[] {
    const all = this.rest.length === 0 ? bytes : joined(this.rest, bytes);
    const frames: Framed[] = [];
    let at = 0;
    for (;;) {
      const frame = frameAt(all, at);
      if (!frame) break;
      frames.push(frame);
      at = frame.bytes.byteOffset - all.byteOffset + frame.bytes.length;
    }
    this.rest = all.subarray(at);
    return frames;
  }

  /** Throws an `Error` if a frame is incomplete. */
  end(): void {
    if (this.rest.length > 0) throw new Error(`got ${this.rest.length} bytes of a frame, want all of it`);
  }
}

/** The frame that begins at a place, if it is complete. */
function frameAt(all: Uint8Array<ArrayBuffer>, at: number): Framed | null {
  if (all.length - at < 4) return null;
  const view = new DataView(all.buffer, all.byteOffset + at);
  const length = view.getUint32(0, true);
  if (length === 0 || length > HEAD_MAX)
    throw new Error(`got a head of ${length} bytes, want 1 to ${HEAD_MAX}`);
  const body = at + 4 + length;
  if (all.length < body) return null;
  const head = JSON.parse(new TextDecoder().decode(all.subarray(at + 4, body))) as FrameHead;
  if (!Number.isSafeInteger(head.size) || head.size < 0)
    throw new Error(`got a picture of ${head.size} bytes`);
  if (all.length < body + head.size) return null;
  return { head, bytes: all.subarray(body, body + head.size) };
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
