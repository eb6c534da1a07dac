import type { Item } from "../state/api.types";
import { formatStep } from "../state/steps";

/** Items by their reasons, in the order in which the reasons come. */
export function reasons(items: readonly Item[]): [string, Item[]][] {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const reason = item.reason ?? "no reason is recorded";
    groups.set(reason, [...(groups.get(reason) ?? []), item]);
  }
  return [...groups];
}

/** Rejected lines and dumps, by reason. */
export function Rejected({ items }: { items: readonly Item[] }) {
  const hasRuns = items.some(({ run }) => run !== items[0]?.run);
  return (
    <>
      {reasons(items).map(([reason, of]) => (
        <section key={reason} class="reason">
          <h2>
            <bdi>{reason}</bdi>
            <span class="muted"> {of.length > 1 ? `${of.length} times` : ""}</span>
          </h2>
          <table class="rejected">
            <thead>
              <tr>
                {hasRuns && <th scope="col">Run</th>}
                <th scope="col">Key</th>
                <th scope="col">Step</th>
                <th scope="col">Dump</th>
                <th scope="col">Log and line</th>
                <th scope="col">Tried again</th>
              </tr>
            </thead>
            <tbody>
              {of.map((item, at) => (
                <tr key={at}>
                  {hasRuns && (
                    <td>
                      <bdi>{item.run}</bdi>
                    </td>
                  )}
                  <td>
                    <bdi>{item.key ?? "–"}</bdi>
                  </td>
                  <td class="num">{item.step === null ? "–" : formatStep(item.step)}</td>
                  <td>
                    <code>{text(item.source, "path")}</code>
                  </td>
                  <td>
                    <code>{lineOf(item.source)}</code>
                  </td>
                  <td>{item.class === "waiting" ? "yes" : "no"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      ))}
    </>
  );
}

function text(source: Record<string, unknown>, name: string): string {
  const value = source[name];
  return typeof value === "string" || typeof value === "number" ? String(value) : "–";
}

function lineOf(source: Record<string, unknown>): string {
  const [log, line] = [text(source, "log"), text(source, "line")];
  return log === "–" ? "–" : line === "–" ? log : `${log}:${line}`;
}
