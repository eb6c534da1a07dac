import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { act, SHORTCUTS, type ShortcutName } from "../state/keys";
import { Down, Right } from "./icons";

interface PanelProps {
  title: string;
  /** The shortcut that opens and closes it. */
  name?: ShortcutName;
  /** Whether it is open, if the link says so. Other panels begin open. */
  isOpen?: boolean;
  /** Beside the title. */
  note?: ComponentChildren;
  children: ComponentChildren;
}

/** A part of the side of a page that opens and closes. */
export function Panel({ title, name, isOpen: given, note, children }: PanelProps) {
  const [own, setOwn] = useState(true);
  const isOpen = given ?? own;
  const id = `panel-${title.toLowerCase().replace(/\W+/g, "-")}`;
  const toggle = () => (name && given !== undefined ? act(name) : setOwn(!own));
  return (
    <section class="panel" aria-labelledby={`${id}-title`}>
      <div class="panel-head">
        <h2 id={`${id}-title`}>
          <button
            type="button"
            class="panel-toggle"
            aria-expanded={isOpen}
            aria-controls={id}
            aria-keyshortcuts={name && SHORTCUTS[name].keys[0]}
            title={name && `${SHORTCUTS[name].does} (${SHORTCUTS[name].label})`}
            onClick={toggle}
          >
            {isOpen ? <Down /> : <Right />}
            {title}
            {name && (
              <span class="key-hint" aria-hidden="true">
                {SHORTCUTS[name].label}
              </span>
            )}
          </button>
        </h2>
        {note && <div class="panel-note">{note}</div>}
      </div>
      {isOpen && (
        <div class="panel-body" id={id}>
          {children}
        </div>
      )}
    </section>
  );
}
