import { Empty, Link } from "./parts";

/** What stands at an address that is none of a page. */
export function Missing() {
  return (
    <Empty title="There is no such page">
      <p>
        The gallery has nothing at <code>{location.pathname}</code>. The address may be mistyped, or of
        another version.
      </p>
      <Link to={{}} class="button is-main">
        All runs
      </Link>
    </Empty>
  );
}
