import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { bytesText, countText, proofText, ruleText, shareText } from "../picture/words";
import type { Item, ItemDetails } from "../state/api.types";
import { Panel } from "./Panel";
import { Button, Command } from "./parts";

/** All that is known of an item: rule and statistics first. */
export function Facts({ details }: { details: ItemDetails }) {
  const { item, dump, release, file } = details;
  return (
    <Panel title="Facts">
      <State item={item} release={release} />
      {item.caption !== null && <Caption text={item.caption} />}
      {item.warnings?.map((warning) => (
        <p class="note is-warning" key={warning}>
          {warning}
        </p>
      ))}
      {item.rule !== null && (
        <dl class="facts">
          <Fact name="rule">{ruleText(item)}</Fact>
        </dl>
      )}
      <Statistics item={item} />
      <dl class="facts">
        {item.profile !== null && <Fact name="profile">{item.profile}</Fact>}
        {item.colormap && <Fact name="colormap">{item.colormap}</Fact>}
        {dump.dtype !== null && (
          <Fact name="tensor" mono>
            {dump.dtype} {dump.shape && `(${dump.shape.join(", ")})`}
            {dump.image !== null && ` [${dump.image}]`}
          </Fact>
        )}
        {item.format !== null && (
          <Fact name="axes">
            {item.format}
            {item.format_guessed && <span class="chip is-held">guessed</span>}
          </Fact>
        )}
        {item.state !== "rejected" && <Fact name="values">{proofText(dump)}</Fact>}
        <Stored item={item} file={file} />
        {item.grouping !== null && <Fact name="grouping">{item.grouping}</Fact>}
        {item.time !== undefined && <Fact name="logged">{new Date(item.time * 1000).toLocaleString()}</Fact>}
        <Source source={item.source} />
        <Extra extra={item.extra} />
      </dl>
    </Panel>
  );
}

/** Longer captions are cut until they are asked for. */
const CAPTION_MAX = 400;

function Caption({ text }: { text: string }) {
  const [isWhole, setWhole] = useState(false);
  const isCut = text.length > CAPTION_MAX && !isWhole;
  return (
    <p class="caption">
      {isCut ? `${text.slice(0, CAPTION_MAX)}…` : text}
      {isCut && (
        <Button kind="plain" onClick={() => setWhole(true)}>
          all {countText(text.length)} characters
        </Button>
      )}
    </p>
  );
}

function State({ item, release }: { item: Item; release: string | null }) {
  if (item.state === "held") {
    return (
      <div class="note is-held">
        <strong>Held.</strong> {item.reason}
        {release && <Command line={release} />}
      </div>
    );
  }
  if (item.state === "rejected") {
    return (
      <div class="note is-rejected">
        <strong>{item.class === "waiting" ? "Rejected, will be tried again." : "Rejected."}</strong>{" "}
        {item.reason}
      </div>
    );
  }
  return item.pruned ? (
    <div class="note is-held">
      <strong>Pruned.</strong> Retention removed the media file.
    </div>
  ) : null;
}

function Statistics({ item: { stats } }: { item: Item }) {
  if (!stats) return null;
  const text = (value: number | null) => (value === null ? "–" : String(Number(value.toPrecision(4))));
  const cells: [string, string, boolean][] = [
    ["min", text(stats.min), false],
    ["max", text(stats.max), false],
    ["mean", text(stats.mean), false],
    ["std", text(stats.std), false],
    ["nan", String(stats.nan), stats.nan > 0],
    ["inf", String(stats.inf), stats.inf > 0],
    ["clipped", shareText(stats.clipped), stats.clipped > 0.01],
  ];
  return (
    <dl class="stats">
      {cells.map(([name, value, isOdd]) => (
        <div key={name} class={isOdd ? "stat is-odd" : "stat"}>
          <dt>{name}</dt>
          <dd class="num mono">{value}</dd>
        </div>
      ))}
      {stats.constant && (
        <div class="stat is-odd">
          <dt>all equal</dt>
          <dd>yes</dd>
        </div>
      )}
    </dl>
  );
}

function Stored({ item, file }: { item: Item; file: string | null }) {
  if (item.width === null || item.height === null) return null;
  const parts = [
    `${item.width} × ${item.height}`,
    item.mode,
    item.file_type?.toUpperCase(),
    item.size !== null && bytesText(item.size),
  ];
  return (
    <>
      <Fact name="picture">
        {parts.filter(Boolean).join(" · ")}
        {item.downscaled_from && ` · scaled down from ${item.downscaled_from.join(" × ")}`}
      </Fact>
      {file !== null && (
        <Fact name="file" mono>
          {file}
        </Fact>
      )}
      {item.sha256 !== null && (
        <Fact name="sha256" mono>
          {item.sha256}
        </Fact>
      )}
    </>
  );
}

/** The dump, log and line that the item comes from. How its dump is found again if it is held needs no words. */
function Source({ source }: { source: Record<string, unknown> }) {
  const rows = Object.entries(source).filter(([name, value]) => name !== "held" && value !== null);
  return (
    <>
      {rows.map(([name, value]) => (
        <Fact key={name} name={name} mono>
          {typeof value === "string" ? value : JSON.stringify(value)}
        </Fact>
      ))}
    </>
  );
}

function Extra({ extra }: { extra: unknown }) {
  if (typeof extra !== "object" || extra === null) return null;
  return (
    <>
      {Object.entries(extra).map(([name, value]) => (
        <Fact key={name} name={name} mono>
          {typeof value === "string" ? value : JSON.stringify(value)}
        </Fact>
      ))}
    </>
  );
}

function Fact({ name, mono, children }: { name: string; mono?: boolean; children: ComponentChildren }) {
  return (
    <div class="fact">
      <dt>{name}</dt>
      <dd class={mono ? "mono" : undefined}>{children}</dd>
    </div>
  );
}
