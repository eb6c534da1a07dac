import { useLayoutEffect, useRef } from "preact/hooks";
import { colormap } from "../picture/develop";
import { readable } from "../picture/loupe";

/** The colors of a map, from the low value to the high one. */
export function ColorBar({ map, low, high }: { map: string; low: number; high: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useLayoutEffect(() => {
    const context = canvas.current?.getContext("2d");
    const colors = colormap(map);
    if (!context || !colors) return;
    const row = context.createImageData(256, 1);
    for (let level = 0; level < 256; level++) {
      row.data.set([...colors.subarray(level * 3, level * 3 + 3), 255], level * 4);
    }
    context.putImageData(row, 0, 0);
  }, [map]);
  return (
    <div class="color-bar">
      <canvas ref={canvas} width={256} height={1} role="img" aria-label={`Colors of ${map}`} />
      <div class="row num mono">
        <span>{readable(low)}</span>
        <span>{readable((low + high) / 2)}</span>
        <span>{readable(high)}</span>
      </div>
    </div>
  );
}
