import type { ComponentChildren } from "preact";
import { act, SHORTCUTS, type ShortcutName } from "../state/keys";
import { Down, Right } from "./icons";

interface PanelProps {
  title: string;
  /** The shortcut that opens and closes it. */
  name?: ShortcutName;
  isOpen?: boolean;
  onToggle?: () => void;
  /** Beside the title. */
  note?: ComponentChildren;
  children: ComponentChildren;
}

/** A part of the side of a page that opens and closes. */
export function Panel({ title, name, isOpen = true, onToggle, note, children }: PanelProps) {
  const id = `panel-${title.toLowerCase().replace(/\W+/g, "-")}`;
  const toggle = onToggle ?? (() => name && act(name));
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
