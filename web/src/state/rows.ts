// Rows of which only those near the view are in the page. Pure.

/** The heights of rows. */
export interface Rows {
  readonly count: number;
  /** The height of all rows in pixels. */
  readonly total: number;
  /** The top edge of a row. */
  top(row: number): number;
  /** The height of a row. */
  height(row: number): number;
  /** The row at a height, from the first to the last. */
  at(y: number): number;
}

/** Rows of one height. */
export function equalRows(count: number, height: number): Rows {
  return {
    count,
    total: count * height,
    top: (row) => row * height,
    height: () => height,
    at: (y) => clamp(Math.floor(y / height), 0, Math.max(0, count - 1)),
  };
}

/** Rows of several heights. */
export function variedRows(heights: readonly number[]): Rows {
  const tops = [0];
  for (const height of heights) tops.push((tops.at(-1) ?? 0) + height);
  return {
    count: heights.length,
    total: tops.at(-1) ?? 0,
    top: (row) => tops[row] ?? 0,
    height: (row) => heights[row] ?? 0,
    at(y) {
      let low = 0;
      let high = heights.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((tops[middle + 1] ?? 0) <= y) low = middle + 1;
        else high = middle;
      }
      return clamp(low, 0, Math.max(0, heights.length - 1));
    },
  };
}

/** The rows to show: those in the view, and those within `over` pixels of it. The second one is not included. */
export function rowsNear(rows: Rows, y: number, viewport: number, over: number): [number, number] {
  if (rows.count === 0) return [0, 0];
  return [rows.at(y - over), Math.min(rows.count, rows.at(y + viewport + over) + 1)];
}

/** Browsers lose precision beyond some ten million pixels. */
export const SCROLL_MAX = 10_000_000;

/**
 * Where the view is among rows that may be higher than an element can scroll. Small movements are exact; a movement
 * by more than a screen, as with the scroll bar, goes to the same share of the whole.
 */
export class ScrollMap {
  /** The top of the view among the rows. */
  y = 0;
  private last = 0;

  constructor(
    private total: number,
    private viewport: number,
  ) {}

  /** The height of the scrolled element. */
  get space(): number {
    return Math.min(this.total, SCROLL_MAX);
  }

  /** What the element was scrolled to last. */
  get top(): number {
    return this.last;
  }

  private get isMapped(): boolean {
    return this.total > SCROLL_MAX;
  }

  private get range(): number {
    return Math.max(0, this.total - this.viewport);
  }

  private get scrollRange(): number {
    return Math.max(0, this.space - this.viewport);
  }

  /** Tells that the element was scrolled to `scrollTop`. */
  scrolled(scrollTop: number): void {
    const by = scrollTop - this.last;
    this.last = scrollTop;
    if (!this.isMapped) {
      this.y = scrollTop;
    } else if (Math.abs(by) <= this.viewport && scrollTop > 0 && scrollTop < this.scrollRange) {
      this.y = clamp(this.y + by, 0, this.range);
    } else {
      this.y = (scrollTop / this.scrollRange) * this.range;
    }
  }

  /** Shows `y`. Returns what the element must be scrolled to. */
  go(y: number): number {
    this.y = clamp(y, 0, this.range);
    this.last = this.isMapped ? (this.y / this.range) * this.scrollRange : this.y;
    return this.last;
  }

  /** Takes other sizes and keeps `y`. Returns what the element must be scrolled to. */
  resize(total: number, viewport: number): number {
    this.total = total;
    this.viewport = viewport;
    return this.go(this.y);
  }

  /** Where a row stands in the scrolled element. */
  place(top: number): number {
    return top - this.y + this.last;
  }
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
