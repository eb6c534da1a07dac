import type { ComponentChildren } from "preact";
import { First, Last, Left, Right } from "./icons";
import { KeyButton } from "./parts";

/** The buttons to the first, previous, next and last step. What stands between them says the step, or plays. */
export function StepButtons({ children }: { children: ComponentChildren }) {
  return (
    <>
      <KeyButton name="first" kind="plain" icon>
        <First />
      </KeyButton>
      <KeyButton name="previous" kind="plain" icon>
        <Left />
      </KeyButton>
      {children}
      <KeyButton name="next" kind="plain" icon>
        <Right />
      </KeyButton>
      <KeyButton name="last" kind="plain" icon>
        <Last />
      </KeyButton>
    </>
  );
}
