import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Button, Empty } from "./parts";

/** A page whose script comes when it is first shown, so that the first page comes sooner. */
export function lazy(load: () => Promise<ComponentType>): ComponentType {
  let known: ComponentType | undefined;
  return function Lazy() {
    const [Page, setPage] = useState(() => known);
    const [isLost, setLost] = useState(false);
    useEffect(() => {
      if (Page) return;
      load().then(
        (page) => {
          known = page;
          setPage(() => page);
        },
        () => setLost(true),
      );
    }, []);
    if (isLost) {
      return (
        <Empty title="This page did not come">
          <p>The gallery does not answer, or has been updated since this tab was opened.</p>
          <Button onClick={() => location.reload()}>Load it again</Button>
        </Empty>
      );
    }
    return Page ? <Page /> : null;
  };
}
