// Small components that all pages share.

import type { AnchorHTMLAttributes, ButtonHTMLAttributes, ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { ApiError } from "../state/api";
import { act, isBound, SHORTCUTS, type ShortcutName } from "../state/keys";
import { push, view } from "../state/route";
import { say } from "../state/say";
import { formatView, START, type View } from "../state/url";

type Plain = Omit<ButtonHTMLAttributes<HTMLButtonElement>, "class" | "icon">;

interface ButtonProps extends Plain {
  kind?: "plain" | "main";
  icon?: boolean;
  class?: string;
  children: ComponentChildren;
}

/** A button. */
export function Button({ kind, icon, class: also, children, ...rest }: ButtonProps) {
  const names = ["button", kind && `is-${kind}`, icon && "is-icon", also];
  return (
    <button type="button" class={names.filter(Boolean).join(" ")} {...rest}>
      {children}
    </button>
  );
}

interface KeyButtonProps extends Omit<ButtonProps, "children"> {
  name: ShortcutName;
  /** Whether it is on, for a shortcut that turns something on and off. */
  pressed?: boolean;
  children?: ComponentChildren;
}

/** The button of a shortcut. Its title tells the key. It is disabled while nobody has bound the shortcut. */
export function KeyButton({ name, pressed, children, ...rest }: KeyButtonProps) {
  const { does, label } = SHORTCUTS[name];
  const state = pressed === undefined ? {} : { "aria-pressed": pressed };
  const isNamed = typeof children === "string";
  return (
    <Button
      title={`${does} (${label})`}
      aria-label={isNamed ? undefined : does}
      aria-keyshortcuts={SHORTCUTS[name].keys[0]}
      disabled={!isBound(name)}
      onClick={() => act(name)}
      {...state}
      {...rest}
    >
      {children ?? does}
    </Button>
  );
}

interface LinkProps extends Omit<AnchorHTMLAttributes<HTMLAnchorElement>, "href" | "role"> {
  /** The view. What it leaves out is as in the present one if `keep`, else as at the start. */
  to: Partial<View>;
  keep?: boolean;
}

/** A link to a view. A plain click shows it at once; all other clicks are the browser's. */
export function Link({ to, keep, children, ...rest }: LinkProps) {
  const target = { ...(keep ? view.value : START), ...to };
  const follow = (event: MouseEvent) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    push(target);
  };
  return (
    <a {...rest} href={formatView(target)} onClick={follow}>
      {children}
    </a>
  );
}

/** Says that there is nothing, and what helps. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** Says what went wrong. */
export function ErrorNote({ error, again }: { error: ApiError; again?: () => void }) {
  return (
    <div class="error-note" role="alert">
      <strong>{error.problem.title}</strong>
      <span>{error.problem.detail}</span>
      {again && <Button onClick={again}>Try again</Button>}
    </div>
  );
}

/** Stands where something will be. Shows nothing for its first 120 ms: most answers are there before. */
export function Skeleton({ width, height }: { width?: string | number; height: string | number }) {
  const [isLate, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 120);
    return () => clearTimeout(timer);
  }, []);
  const length = (of: string | number) => (typeof of === "number" ? `${of}px` : of);
  const style = { width: length(width ?? "100%"), height: length(height) };
  return <span class={isLate ? "skeleton" : undefined} aria-hidden="true" style={style} />;
}

/** A command to copy. */
export function Command({ line }: { line: string }) {
  return (
    <div class="command">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a long line scrolls, and the keyboard must reach it. */}
      <code tabIndex={0}>{line}</code>
      <Button onClick={() => copy(line, "Command copied")}>Copy</Button>
    </div>
  );
}

/** Copies a text and says so. */
export async function copy(text: string, done: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say(done);
  } catch {
    // The clipboard needs a secure context: localhost is one, another host without TLS is not.
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    const isDone = document.execCommand("copy");
    field.remove();
    say(isDone ? done : "The browser did not allow copying");
  }
}
