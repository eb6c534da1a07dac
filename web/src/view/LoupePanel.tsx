import { byteText, channelNames, printed, readable, statistics } from "../picture/loupe";
import type { Tensor } from "../picture/npy";
import { proofText } from "../picture/words";
import type { Point, Rectangle, Size } from "../picture/zoom";
import type { DumpFacts } from "../state/api.types";
import { Panel } from "./Panel";
import { Button } from "./parts";
import type { KnownValues } from "./values";

interface LoupeProps {
  isOpen: boolean;
  size: Size;
  values: KnownValues;
  dump: DumpFacts;
  pixel: Point | null;
  rectangle: Rectangle | null;
  onPixel: (pixel: Point) => void;
  onRectangle: (rectangle: Rectangle | null) => void;
}

/** The values of one pixel beside its stored bytes, and the statistics of a rectangle. */
export function LoupePanel(props: LoupeProps) {
  const { isOpen, values, dump, pixel, rectangle, onRectangle } = props;
  const note = values.isProved ? dump.dtype : "stored picture";
  return (
    <Panel title="Loupe" name="loupe" isOpen={isOpen} note={note}>
      <Coordinates {...props} />
      <PixelTable {...props} />
      {!values.isProved && <p class="note">These are the stored picture’s bytes. {proofText(dump)}</p>}
      {values.error && <p class="note is-warning">{values.error.message}</p>}
      {rectangle ? (
        <RectangleTable {...props} rectangle={rectangle} />
      ) : (
        <p class="hint">
          Shift and drag to choose a rectangle{" "}
          <Button
            kind="plain"
            onClick={() => onRectangle({ ...(pixel ?? { x: 0, y: 0 }), width: 8, height: 8 })}
          >
            8 × 8 here
          </Button>
        </p>
      )}
    </Panel>
  );
}

/** Where the loupe is. The fields move it by keyboard. */
function Coordinates({ pixel, size, onPixel }: LoupeProps) {
  const field = (name: "x" | "y", side: number) => (
    <label class="coordinate">
      {name}
      <input
        class="field num"
        type="number"
        min={0}
        max={side - 1}
        value={pixel?.[name] ?? ""}
        placeholder="–"
        onInput={(event) => {
          const value = event.currentTarget.valueAsNumber;
          if (!(value >= 0 && value < side)) return;
          onPixel({ x: pixel?.x ?? 0, y: pixel?.y ?? 0, [name]: Math.floor(value) });
        }}
      />
    </label>
  );
  return (
    <div class="coordinates">
      {field("x", size.width)}
      {field("y", size.height)}
      <span class="muted num">
        of {size.width} × {size.height}
      </span>
    </div>
  );
}

function PixelTable({ pixel, values, size }: LoupeProps) {
  const near = pixel && values.near(pixel.x, pixel.y);
  const tensor = near?.tensor;
  const bytes = pixel && bytesAt(values.bytes(), pixel, size);
  const { channels } = values;
  const names = channelNames(channels);
  return (
    <table class="table">
      <thead>
        <tr>
          <th scope="col">channel</th>
          <th scope="col">value</th>
          {values.isProved && <th scope="col">stored byte</th>}
        </tr>
      </thead>
      <tbody>
        {names.map((name, channel) => (
          <tr key={name}>
            <th scope="row">
              <span class={`channel is-${name.toLowerCase()}`}>{name}</span>
            </th>
            <td class="mono num">
              {pixel && near && tensor
                ? values.isProved
                  ? printed(tensor, pixel.x - near.x, pixel.y - near.y, channel)
                  : storedText(bytes, channel, channels, values.bytes())
                : "–"}
            </td>
            {values.isProved && (
              <td class="mono num">{storedText(bytes, channel, channels, values.bytes())}</td>
            )}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The stored byte of a channel. A colormap made several of one value. */
function storedText(bytes: number[] | null, channel: number, channels: number, of: Tensor | null): string {
  if (!bytes) return "–";
  if (channels === 1 && bytes.length > 1) {
    const hex = bytes.map((byte) => byte.toString(16).padStart(2, "0").toUpperCase());
    return `${bytes.join(" ")} #${hex.join("")}`;
  }
  const byte = bytes[channel];
  return byte === undefined ? "–" : byteText(byte, of?.dtype === "uint16" ? 4 : 2);
}

/** The stored bytes of a pixel. A picture that was scaled down has fewer pixels than the dump. */
function bytesAt(bytes: Tensor | null, { x, y }: Point, size: Size): number[] | null {
  if (!bytes) return null;
  const column = Math.min(bytes.width - 1, Math.floor((x * bytes.width) / size.width));
  const row = Math.min(bytes.height - 1, Math.floor((y * bytes.height) / size.height));
  const at = (row * bytes.width + column) * bytes.channels;
  return Array.from({ length: bytes.channels }, (_, channel) => Number(bytes.values[at + channel]));
}

function RectangleTable({ rectangle, values, size, onRectangle }: LoupeProps & { rectangle: Rectangle }) {
  const { x, y } = rectangle;
  const tensor = values.all();
  const rows = tensor && statistics(tensor, rectangle);
  const names = channelNames(values.channels);
  const text = (value: number | null) => (value === null ? "–" : readable(value));
  return (
    <div class="rectangle">
      <div class="row">
        <h3 class="sr-only">Rectangle</h3>
        <Side name="width" most={size.width - x} {...{ rectangle, onRectangle }} />
        <span aria-hidden="true">×</span>
        <Side name="height" most={size.height - y} {...{ rectangle, onRectangle }} />
        <span class="num muted">
          at {x}, {y}
        </span>
        <Button kind="plain" onClick={() => onRectangle(null)}>
          Clear
        </Button>
      </div>
      {rows ? (
        <table class="table">
          <thead>
            <tr>
              {["", "min", "max", "mean", "nan", "inf"].map((name) => (
                <th key={name} scope="col">
                  {name || <span class="sr-only">channel</span>}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row, channel) => (
              <tr key={names[channel]}>
                <th scope="row">{names[channel]}</th>
                <td class="mono num">{text(row.min)}</td>
                <td class="mono num">{text(row.max)}</td>
                <td class="mono num">{text(row.mean)}</td>
                <td class="mono num">{row.nan}</td>
                <td class="mono num">{row.inf}</td>
              </tr>
            ))}
          </tbody>
        </table>
      ) : (
        <p class="note">The values of this picture are too many to sum up on this page.</p>
      )}
    </div>
  );
}

/** A side of the rectangle. */
function Side({
  name,
  most,
  rectangle,
  onRectangle,
}: {
  name: "width" | "height";
  most: number;
  rectangle: Rectangle;
  onRectangle: (rectangle: Rectangle) => void;
}) {
  return (
    <input
      class="field num side-field"
      type="number"
      aria-label={`${name} of the rectangle`}
      min={1}
      max={most}
      value={rectangle[name]}
      onInput={(event) => {
        const value = event.currentTarget.valueAsNumber;
        if (value >= 1 && value <= most) onRectangle({ ...rectangle, [name]: Math.floor(value) });
      }}
    />
  );
}
