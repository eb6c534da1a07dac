import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

interface MenuProps {
  label: string;
  icon: ComponentChildren;
  children: ComponentChildren;
}

/** A button that opens a list of actions below it. Choosing one, Escape or a click elsewhere closes it. */
export function Menu({ label, icon, children }: MenuProps) {
  const [isOpen, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const opener = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!isOpen) return;
    list.current?.querySelector<HTMLElement>("a, button")?.focus();
    const outside = (event: Event) => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside);
    document.addEventListener("focusin", outside);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("focusin", outside);
    };
  }, [isOpen]);
  const close = () => {
    setOpen(false);
    opener.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (!isOpen) return;
    const choices = [...(list.current?.querySelectorAll<HTMLElement>("a, button:enabled") ?? [])];
    const at = choices.indexOf(document.activeElement as HTMLElement);
    const move = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: choices.length - 1 }[event.key];
    if (event.key === "Escape") close();
    else if (move !== undefined) choices[(move + choices.length) % choices.length]?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys are those of the buttons in it.
    <div class="menu" ref={root} onKeyDown={onKeyDown}>
      <button
        ref={opener}
        type="button"
        class="button"
        aria-expanded={isOpen}
        aria-label={label}
        title={label}
        onClick={() => setOpen(!isOpen)}
      >
        {icon}
        <span class="button-word">{label}</span>
      </button>
      {isOpen && (
        // biome-ignore lint/a11y/useKeyWithClickEvents: a key press on a button in it is a click.
        // biome-ignore lint/a11y/noStaticElementInteractions: it only learns that a button in it was pressed.
        <div class="menu-list" ref={list} onClick={close}>
          {children}
        </div>
      )}
    </div>
  );
}

/** An action, with a line that says more. */
export function Choice({ title, text, act }: { title: string; text?: string | null; act: () => void }) {
  return (
    <button type="button" class="menu-choice" onClick={act}>
      <span>{title}</span>
      {text && <span class="menu-text mono cut">{text}</span>}
    </button>
  );
}

/** A file to download. */
export function Download({
  title,
  text,
  href,
  name,
}: {
  title: string;
  text?: string;
  href: string;
  name: string;
}) {
  return (
    <a class="menu-choice" href={href} download={name}>
      <span>{title}</span>
      {text && <span class="menu-text cut">{text}</span>}
    </a>
  );
}
