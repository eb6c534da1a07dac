/** A length in CSS pixels. */
export function px(length: number): string {
  return `${length}px`;
}
