import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { between } from "../picture/loupe";
import { paint, type Scene } from "../picture/paint";
import {
  fitted,
  oneToOne,
  origin,
  type Point,
  panned,
  pixelAt,
  type Rectangle,
  type Size,
  type Zoom,
  zoomedAbout,
} from "../picture/zoom";
import { settle } from "../state/route";

/** Where the picture is on the screen, in CSS pixels. */
export interface Geometry {
  readonly left: number;
  readonly top: number;
  /** CSS pixels per pixel of the picture. */
  readonly scale: number;
}

type Painted = Omit<Scene, "zoom" | "screen" | "ratio">;

interface StageProps extends Painted {
  /** Null: all of the picture. */
  zoom: Zoom | null;
  onZoom: (zoom: Zoom | null) => void;
  onPixel?: (pixel: Point | null) => void;
  onRectangle?: (rectangle: Rectangle | null) => void;
  onScreen?: (screen: Size) => void;
  /** What the picture shows, for those who can't see it. */
  label: string;
  /** What lies above the picture. */
  above?: (geometry: Geometry) => ComponentChildren;
  children?: ComponentChildren;
}

/** A wheel's turn by so much, as a logarithm of the scale, is a step of the zoom. */
const STEP_MIN = 0.08;

/** A picture that the wheel zooms, that dragging pans, and on which Shift and dragging choose a rectangle. */
export function Stage(props: StageProps) {
  const { size, zoom: asked, isSmooth } = props;
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [screen, setScreen] = useState<Size>({ width: 0, height: 0 });
  const ratio = window.devicePixelRatio || 1;
  const zoom = asked ?? fitted(size, screen, !isSmooth);

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(([entry]) => {
      const exact = entry?.devicePixelContentBoxSize?.[0];
      const css = element.getBoundingClientRect();
      const now = {
        width: exact?.inlineSize ?? Math.round(css.width * window.devicePixelRatio),
        height: exact?.blockSize ?? Math.round(css.height * window.devicePixelRatio),
      };
      setScreen(now);
      latest.current.onScreen?.(now);
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const latest = useRef({ ...props, zoom, screen });
  latest.current = { ...props, zoom, screen };
  const frame = useRef(0);
  useLayoutEffect(() => {
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() => {
      const [element, now] = [canvas.current, latest.current];
      const context = element?.getContext("2d");
      if (!element || !context || now.screen.width === 0) return;
      if (element.width !== now.screen.width) element.width = now.screen.width;
      if (element.height !== now.screen.height) element.height = now.screen.height;
      paint(context, { ...now, ratio: window.devicePixelRatio || 1 });
    });
  });
  usePointer(box, latest);

  const corner = origin(zoom, screen);
  const geometry = { left: corner.x / ratio, top: corner.y / ratio, scale: zoom.scale / ratio };
  return (
    <div class="stage" ref={box}>
      <canvas ref={canvas} class="stage-canvas" role="img" aria-label={props.label} />
      {screen.width > 0 && props.above?.(geometry)}
      {props.children}
    </div>
  );
}

type Latest = { current: Omit<StageProps, "zoom"> & { zoom: Zoom; screen: Size } };

/** Listens to the wheel and the pointer. */
function usePointer(box: { current: HTMLDivElement | null }, latest: Latest): void {
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    let turned = 0;
    let drag: { from: Point; zoom: Zoom; rectangle: Point | null } | null = null;
    const place = (event: MouseEvent): Point => {
      const css = element.getBoundingClientRect();
      const ratio = window.devicePixelRatio || 1;
      return { x: (event.clientX - css.left) * ratio, y: (event.clientY - css.top) * ratio };
    };
    const pixel = (event: MouseEvent) => {
      const { zoom, screen, size } = latest.current;
      return pixelAt(zoom, place(event), screen, size);
    };
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 32 : 1;
      turned -= event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002);
      if (Math.abs(turned) < STEP_MIN) return;
      const { zoom, screen, isSmooth, onZoom } = latest.current;
      onZoom(zoomedAbout(zoom, Math.exp(turned), place(event), screen, !isSmooth));
      turned = 0;
    };
    const down = (event: PointerEvent) => {
      if (event.button !== 0 || (event.target as Element).closest("button, a, input")) return;
      const at = event.shiftKey && latest.current.onRectangle ? pixel(event) : null;
      drag = { from: place(event), zoom: latest.current.zoom, rectangle: at };
      element.setPointerCapture(event.pointerId);
      if (at) latest.current.onRectangle?.(between(at, at));
    };
    const move = (event: PointerEvent) => {
      const at = pixel(event);
      latest.current.onPixel?.(at);
      if (drag?.rectangle) {
        if (at) latest.current.onRectangle?.(between(drag.rectangle, at));
      } else if (drag) {
        const to = place(event);
        const by = { x: to.x - drag.from.x, y: to.y - drag.from.y };
        if (Math.abs(by.x) + Math.abs(by.y) < 3 && drag.zoom === latest.current.zoom) return;
        latest.current.onZoom(panned(drag.zoom, by, latest.current.size));
        element.classList.add("is-dragged");
      }
    };
    const up = () => {
      drag = null;
      element.classList.remove("is-dragged");
      settle();
    };
    const leave = () => drag || latest.current.onPixel?.(null);
    const twice = (event: MouseEvent) => {
      const { zoom, screen, size, isSmooth, onZoom } = latest.current;
      const isFit = zoom.scale === fitted(size, screen, !isSmooth).scale;
      const to = 1 / zoom.scale;
      onZoom(
        isFit && to !== 1 ? oneToOne(zoomedAbout(zoom, to, place(event), screen, false), size, screen) : null,
      );
    };
    const abort = new AbortController();
    const { signal } = abort;
    element.addEventListener("wheel", wheel, { passive: false, signal });
    element.addEventListener("pointerdown", down, { signal });
    element.addEventListener("pointermove", move, { signal });
    element.addEventListener("pointerup", up, { signal });
    element.addEventListener("pointercancel", up, { signal });
    element.addEventListener("pointerleave", leave, { signal });
    element.addEventListener("dblclick", twice, { signal });
    return () => abort.abort();
  }, [box, latest]);
}
