import { ApiError } from "../state/api";
import { formatStep, type StepList } from "../state/steps";
import { Empty, ErrorNote, Link, Skeleton } from "./parts";

interface NoItemProps {
  title: string;
  run: string;
  steps?: StepList;
  error?: Error;
}

/** Says why there is no item, and leads to others. */
export function NoItem({ title, run, steps, error }: NoItemProps) {
  const first = steps?.first() ?? null;
  return (
    <>
      <h1 class="sr-only">{title}</h1>
      {error instanceof ApiError ? <ErrorNote error={error} /> : error && <p class="note">{error.message}</p>}
      <Empty title={error ? "No item" : title}>
        {first !== null && (
          <Link to={{ step: first }} keep class="button is-main">
            First at step {formatStep(first)}
          </Link>
        )}
        <Link to={run ? { page: "grid", run: [run] } : {}} class="button">
          {run ? "All pictures of the run" : "All runs"}
        </Link>
      </Empty>
    </>
  );
}

/** What the item page shows until its first item is there. */
export function ItemSkeleton() {
  return (
    <div class="item">
      <div class="bar">
        <Skeleton width={320} height={20} />
      </div>
      <div class="item-main" />
      <aside class="side is-waiting">
        <Skeleton height={160} />
        <Skeleton height={120} />
        <Skeleton height={240} />
      </aside>
    </div>
  );
}
