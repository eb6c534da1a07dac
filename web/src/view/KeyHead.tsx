import { useState } from "preact/hooks";
import type { KeyRow } from "../state/api.types";
import { plural } from "../state/plural";
import { px } from "../state/px";
import { DevelopedChip } from "./DevelopedCell";
import { ItemsDialog } from "./ItemsDialog";
import { RunDot } from "./Runs";

/** From this width on there is room for the number of images. */
const WIDE = 280;

interface KeyHeadProps {
  run: string;
  row: KeyRow;
  /** The width of the tiles that it stands above, in pixels. */
  width: number;
  /** Whether to name the run. */
  hasRun: boolean;
}

/** A key's name, and chips for what is held and rejected. */
export function KeyHead({ run, row, width, hasRun }: KeyHeadProps) {
  return (
    <div class="key-head" role="gridcell" style={{ width: px(width) }}>
      {hasRun && <RunDot run={run} />}
      <h2 class="cut" title={row.key}>
        <bdi>{row.key}</bdi>
      </h2>
      {width >= WIDE && <span class="muted num">{plural(row.image, "image")}</span>}
      <DevelopedChip of={row.key} />
      <Chips run={run} row={row} />
    </div>
  );
}

/** Chips that open the lists of held and of rejected items. */
export function Chips({ run, row }: { run: string; row: KeyRow }) {
  const [open, setOpen] = useState<"held" | "rejected" | null>(null);
  return (
    <>
      {row.held > 0 && (
        <button type="button" class="chip is-held num" onClick={() => setOpen("held")}>
          <span aria-hidden="true">◆</span>
          {row.held.toLocaleString("en")} held
        </button>
      )}
      {row.rejected > 0 && (
        <button type="button" class="chip is-rejected num" onClick={() => setOpen("rejected")}>
          <span aria-hidden="true">✕</span>
          {row.rejected.toLocaleString("en")} rejected
        </button>
      )}
      {open && <ItemsDialog run={run} of={row.key} state={open} close={() => setOpen(null)} />}
    </>
  );
}
