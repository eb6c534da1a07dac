// Rows of which only those within a screen of the view are in the page.

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { px } from "../state/px";
import { isReturn } from "../state/route";
import { type Rows, rowsNear, ScrollMap } from "../state/rows";

/** What the owner of the rows can do. */
export interface Scroller {
  /** Scrolls as little as is needed to see a row. */
  reveal(row: number): void;
}

interface ScrollProps {
  rows: Rows;
  /** A name of a row that stays the same when rows come or other ones have its place. */
  idOf: (row: number) => string;
  find: (id: string) => number;
  render: (row: number) => ComponentChildren;
  scroller?: { current: Scroller | null };
  /** What the rows are of. When the page is returned to, they are scrolled as they were. */
  memory: string;
  label: string;
  /** Room above and below the rows. */
  padding: number;
  /** The number of columns, for screen readers. */
  columns: number;
  /** The number of rows, for screen readers. By default, that of `rows`. */
  rowCount?: number;
  /** Called with how far the rows are scrolled sideways. */
  sideways?: (left: number) => void;
  /** Called with the rows that are shown. */
  shown?: (from: number, to: number) => void;
}

/** A row, and how far the top of the view is below its top. */
interface Anchor {
  id: string;
  offset: number;
}

/** Where rows were left, by what they are of. */
const left = new Map<string, Anchor>();

/** How far from the view rows are kept, as a share of its height. */
const OVER = 0.5;

export function Scroll(props: ScrollProps) {
  const { rows, idOf, find, render, scroller, memory, label, padding, columns, shown, sideways } = props;
  const { rowCount = rows.count } = props;
  const element = useRef<HTMLDivElement>(null);
  const map = useRef<ScrollMap | null>(null);
  const anchor = useRef<Anchor | null>(null);
  // Until there are rows, the anchor of the last visit waits.
  const isRestored = useRef(!isReturn || !left.has(memory));
  const [viewport, setViewport] = useState(0);
  const [, setTick] = useState(0);
  const total = rows.total + 2 * padding;

  useLayoutEffect(() => {
    const div = element.current;
    if (!div) return;
    const observer = new ResizeObserver(() => setViewport(div.clientHeight));
    observer.observe(div);
    setViewport(div.clientHeight);
    return () => observer.disconnect();
  }, []);

  map.current ??= new ScrollMap(total, viewport);
  const scroll = map.current;

  // Keeps the first row where it is seen when others come or tiles change their size.
  useLayoutEffect(() => {
    const div = element.current;
    if (!div || viewport === 0) return;
    const kept = isRestored.current ? anchor.current : (left.get(memory) ?? null);
    const row = kept ? find(kept.id) : -1;
    scroll.resize(total, viewport);
    const isKept = kept !== null && row >= 0;
    if (isKept && (scroll.y > padding || !isRestored.current)) scroll.go(rows.top(row) + kept.offset);
    if (isKept) isRestored.current = true;
    const top = scroll.go(scroll.y);
    if (Math.abs(div.scrollTop - top) > 0.5) div.scrollTop = top;
    setTick((tick) => tick + 1);
  }, [rows, total, viewport]);

  const [from, to] = viewport === 0 ? [0, 0] : rowsNear(rows, scroll.y - padding, viewport, viewport * OVER);
  // After the effect above, which needs the anchor of the rows before.
  useLayoutEffect(() => {
    const first = rows.at(Math.max(0, scroll.y - padding));
    anchor.current = rows.count > 0 ? { id: idOf(first), offset: scroll.y - rows.top(first) } : null;
    if (anchor.current && isRestored.current) left.set(memory, anchor.current);
  });
  useLayoutEffect(() => shown?.(from, to), [from, to, rows]);

  const scrolled = () => {
    if (!element.current) return;
    sideways?.(element.current.scrollLeft);
    if (element.current.scrollTop === scroll.top) return;
    scroll.scrolled(element.current.scrollTop);
    setTick((tick) => tick + 1);
  };
  if (scroller) {
    scroller.current = {
      reveal(row) {
        const top = rows.top(row) + padding;
        const bottom = top + rows.height(row);
        const isSeen = top >= scroll.y && bottom <= scroll.y + viewport;
        if (isSeen || !element.current) return;
        const y = top < scroll.y ? top - padding : bottom - viewport + padding;
        element.current.scrollTop = scroll.go(y);
        setTick((tick) => tick + 1);
      },
    };
  }
  const list = Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
  return (
    <div
      ref={element}
      class="scroll"
      role="grid"
      aria-label={label}
      aria-rowcount={rowCount}
      aria-colcount={columns}
      tabIndex={-1}
      onScroll={scrolled}
    >
      <div class="scroll-space" role="presentation" style={{ height: px(scroll.space) }}>
        {list.map((row) => (
          <div
            key={idOf(row)}
            class="scroll-row"
            role="row"
            aria-rowindex={row + 1}
            style={{
              transform: `translateY(${scroll.place(rows.top(row) + padding)}px)`,
              height: px(rows.height(row)),
            }}
          >
            {render(row)}
          </div>
        ))}
      </div>
    </div>
  );
}
